//! What a target's URL can be is said in the core; here stands what deliveries rely on of that.

#[cfg(test)]
mod tests {
    use onefold_core::{InvalidMethod, InvalidTarget, TargetMethod, TargetUrl, URL_BYTES_MAX};

    use crate::AddressPolicy;

    fn host(text: &str) -> String {
        TargetUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).host().to_string()
    }

    #[test]
    fn s_01_every_spelling_of_an_address_is_that_address_and_denied() {
        for text in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://127.0.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://0177.0.0.1/",
            "http://017700000001/",
            "http://127.0.0.1./",
            "http://127.0.0.01/",
            "http://%31%32%37.0.0.1/",
            "http://１２７.0.0.1/",
            "http://127。0。0。1/",
            "http://①②⑦.0.0.1/",
            "HTTP://127.0.0.1:80/",
        ] {
            let url = TargetUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(url.host().to_string(), "127.0.0.1", "{text}");
            assert!(AddressPolicy::public().check_literal(&url).is_err(), "{text}");
        }
        for (text, address) in [
            ("http://[::1]/", "::1"),
            ("http://[0:0:0:0:0:0:0:1]/", "::1"),
            ("http://[::ffff:7f00:1]/", "::ffff:127.0.0.1"),
            ("http://[::ffff:127.0.0.1]/", "::ffff:127.0.0.1"),
            ("http://[64:ff9b::a9fe:a9fe]/", "64:ff9b::a9fe:a9fe"),
            ("http://[fec0::1]/", "fec0::1"),
            ("http://0/", "0.0.0.0"),
            ("http://2852039166/", "169.254.169.254"),
        ] {
            let url = TargetUrl::parse(text).unwrap();
            assert_eq!(url.host().to_string(), address, "{text}");
            assert!(AddressPolicy::public().check_literal(&url).is_err(), "{text}");
        }
    }

    #[test]
    fn s_03_and_s_08_what_is_ambiguous_is_refused() {
        for (text, why) in [
            ("http://user:pass@example.com/", InvalidTarget::Credentials),
            ("http://user@example.com/", InvalidTarget::Credentials),
            ("http://:pass@example.com/", InvalidTarget::Credentials),
            ("http://127.0.0.1\t@example.com/", InvalidTarget::Blank),
            ("http://exam\nple.com/", InvalidTarget::Blank),
            ("http://example.com/a b", InvalidTarget::Blank),
            (" http://example.com/", InvalidTarget::Blank),
            ("http://example.com/\u{0}", InvalidTarget::Blank),
            ("http://example.com\u{3000}.evil/", InvalidTarget::Blank),
            ("http://example.com:0/", InvalidTarget::Port),
        ] {
            assert_eq!(TargetUrl::parse(text), Err(why), "{text:?}");
        }
        for text in [
            "http://[fe80::1%25eth0]/",
            "http://[fe80::1%eth0]/",
            "http://[::1/",
            "http://256.0.0.1/",
            "http://1.2.3.4.5/",
            "http://0x100000000/",
            "http://exa<mple.com/",
            "http://example.com:99999/",
            "http:///",
            "http://",
            "//example.com/",
            "example.com",
            "",
        ] {
            assert!(matches!(TargetUrl::parse(text), Err(InvalidTarget::Syntax(_))), "{text}");
        }
        assert_eq!(TargetUrl::parse("http://./"), Err(InvalidTarget::Host));
    }

    #[test]
    fn s_08_names_are_looked_up_in_their_ascii_form() {
        assert_eq!(host("http://localhost./"), "localhost");
        assert_eq!(host("http://EXAMPLE.com/"), "example.com");
        // The first letter of the second is Cyrillic: another name, and shown as such.
        assert_eq!(host("http://apple.com/"), "apple.com");
        assert_eq!(host("http://аpple.com/"), "xn--pple-43d.com");
        assert_eq!(host("http://ｅｘａｍｐｌｅ。ｃｏｍ/"), "example.com");
        // What stands before the last `@` is no host; the `\` is a `/` to the parser, and so to us.
        assert_eq!(host("http://example.com\\@127.0.0.1/"), "example.com");
    }

    #[test]
    fn s_09_other_schemes_are_refused() {
        for text in [
            "gopher://127.0.0.1:6379/_x",
            "file:///etc/passwd",
            "ftp://example.com/",
            "unix:/var/run/docker.sock",
            "data:text/plain,x",
            "javascript:alert(1)",
            "ws://example.com/",
            "blob:http://example.com/x",
        ] {
            assert_eq!(TargetUrl::parse(text), Err(InvalidTarget::Scheme), "{text}");
        }
    }

    #[test]
    fn what_is_sent_is_what_was_read() {
        let url = TargetUrl::parse("https://Example.com:8443/a/../b%20c?x=1&y=é#top").unwrap();
        assert_eq!(url.as_str(), "https://example.com:8443/b%20c?x=1&y=%C3%A9");
        assert_eq!(url.path_and_query().to_string(), "/b%20c?x=1&y=%C3%A9");
        assert_eq!(url.host_header(), "example.com:8443");
        assert_eq!((url.port(), url.origin().to_string().as_str()), (8443, "https://example.com:8443"));
        let plain = TargetUrl::parse("http://[2606:4700::1111]").unwrap();
        assert_eq!((plain.port(), plain.host_header().to_str().unwrap()), (80, "[2606:4700::1111]"));
        assert_eq!(plain.path_and_query().to_string(), "/");
        assert_eq!(TargetUrl::parse("https://example.com:443/").unwrap().host_header(), "example.com");
    }

    #[test]
    fn a_url_has_its_limit() {
        let of = |bytes: usize| format!("http://example.com/{}", "a".repeat(bytes - 19));
        assert!(TargetUrl::parse(&of(URL_BYTES_MAX)).is_ok());
        assert_eq!(TargetUrl::parse(&of(URL_BYTES_MAX + 1)), Err(InvalidTarget::TooLong));
    }

    #[test]
    fn methods_are_a_short_list() {
        for (method, http) in TargetMethod::ALL {
            assert_eq!(http.as_str().parse(), Ok(method));
            assert_eq!(method.as_http(), http);
        }
        for bad in ["", "post", "CONNECT", "TRACE", "POST ", "GET\r\nX: y"] {
            assert_eq!(bad.parse::<TargetMethod>(), Err(InvalidMethod(bad.to_owned())));
        }
    }
}
