use clap::{CommandFactory, Parser};

use super::*;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    serve: ServeArgs,
}

#[derive(Parser)]
struct RemoteFlags {
    #[command(flatten)]
    remote: RemoteArgs,
}

fn serve(
    file: &str,
    env: &'static [(&'static str, &'static str)],
    flags: &[&str],
) -> Result<ServeSettings, ConfigError> {
    let file = ConfigFile::parse(Path::new("onefold.toml"), file)?;
    let env = move |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
    let config = Config { file, env: Box::new(env) };
    config.serve(Flags::parse_from([&["onefold"], flags].concat()).serve)
}

fn why(result: Result<ServeSettings, ConfigError>) -> String {
    result.err().map_or_else(|| "accepted".to_owned(), |error| error.to_string())
}

#[test]
fn a_flag_wins_over_a_variable_over_the_file_over_the_default() {
    let file = "listen = \"127.0.0.1:3\"\ndrain_timeout = \"3s\"\npayload_limit = 300\n";
    let default = serve("", &[], &[]).unwrap();
    assert_eq!((default.listen.to_string().as_str(), default.payload_limit), ("127.0.0.1:7717", 1 << 20));
    let from_file = serve(file, &[], &[]).unwrap();
    assert_eq!((from_file.listen.target().1, from_file.payload_limit), (3, 300));
    let env = &[("ONEFOLD_LISTEN", "127.0.0.1:2"), ("ONEFOLD_DRAIN_TIMEOUT", "2s")];
    let from_env = serve(file, env, &[]).unwrap();
    assert_eq!((from_env.listen.target().1, from_env.drain_timeout.as_ms()), (2, 2_000));
    let from_flag = serve(file, env, &["--listen", "127.0.0.1:1"]).unwrap();
    assert_eq!((from_flag.listen.target().1, from_flag.drain_timeout.as_ms()), (1, 2_000));
}

#[test]
fn an_unknown_setting_of_the_file_is_refused_with_its_line() {
    let told = why(serve("\n# a comment\nlistn = \"127.0.0.1:1\"\n", &[], &[]));
    assert!(told.starts_with("onefold.toml line 3: there is no setting `listn`"), "{told}");
    let told = why(serve("[serve]\nlisten = \"127.0.0.1:1\"", &[], &[]));
    assert!(told.starts_with("onefold.toml line 1: there is no setting `serve`"), "{told}");
}

#[test]
fn a_bad_value_is_refused_with_its_place() {
    let told = why(serve("data = \"d\"\ndrain_timeout = \"soon\"", &[], &[]));
    assert!(told.starts_with("onefold.toml line 2, `drain_timeout`: a duration"), "{told}");
    let told = why(serve("drain_timeout = true", &[], &[]));
    assert!(told.contains("line 1: `drain_timeout` must be a text in quotes"), "{told}");
    let told = why(serve("", &[("ONEFOLD_LISTEN", "here")], &[]));
    assert!(told.starts_with("ONEFOLD_LISTEN: an address is"), "{told}");
    assert!(why(serve("payload_limit = \"51MiB\"", &[], &[])).contains("50 MiB"));
    assert_eq!(serve("payload_limit = \"50MiB\"", &[], &[]).unwrap().payload_limit, 50 << 20);
}

#[test]
fn a_token_never_stands_in_a_message() {
    let bad = "s3cret with spaces";
    for told in [
        why(serve(&format!("token = \"{bad}\""), &[], &[])),
        why(serve(&format!("token = \"{bad}"), &[], &[])),
        why(serve(&format!("token = [\"{bad}\"]"), &[], &[])),
        why(serve("", &[("ONEFOLD_TOKEN", "s3cret with spaces")], &[])),
        why(serve("", &[], &["--token", bad])),
    ] {
        assert!(!told.contains("s3cret") && told != "accepted", "{told}");
    }
    let settings = serve("", &[("ONEFOLD_TOKEN", "s3cret")], &[]).unwrap();
    assert_eq!(format!("{:?}", settings.token), "Some(Token(…))");
    assert!(why(serve("", &[("ONEFOLD_TOKEN", "")], &[])).contains("empty"));
}

#[test]
fn the_help_names_every_setting_in_all_its_places() {
    let mut help = Flags::command().render_long_help().to_string();
    help.push_str(&RemoteFlags::command().render_long_help().to_string());
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for setting in SETTINGS {
        assert!(help.contains(&format!("[env: {}]", setting.env)), "{}", setting.env);
        assert!(help.contains(&format!("[file: {}]", setting.key)), "{}", setting.key);
        assert!(help.contains(&format!("--{}", setting.key.replace('_', "-"))), "{}", setting.key);
    }
}

#[test]
fn addresses_sizes_and_urls_are_what_they_look_like() {
    let listen = |text: &str| text.parse::<Listen>().map(|listen| listen.to_string()).ok();
    assert_eq!(listen("localhost:0").as_deref(), Some("localhost:0"));
    assert_eq!(listen("[::1]:7717").as_deref(), Some("[::1]:7717"));
    for bad in ["7717", ":7717", "::1:7717", "host:", "host:70000"] {
        assert_eq!(listen(bad), None, "{bad}");
    }
    assert_eq!("16KiB".parse(), Ok(Bytes(16_384)));
    assert!(
        "1.5MiB".parse::<Bytes>().is_err() && "".parse::<Bytes>().is_err() && "MiB".parse::<Bytes>().is_err()
    );
    assert_eq!(Bytes(1 << 20).to_string(), "1 MiB");
    assert_eq!(Bytes(1_572_864).to_string(), "1.5 MiB");
    let url = |text: &str| text.parse::<ServerUrl>().map(|url| url.to_string()).ok();
    assert_eq!(url("https://queue.example/").as_deref(), Some("https://queue.example"));
    for bad in ["queue.example", "http://", "http://u:p@queue.example", "http://a?b", "ftp://a"] {
        assert_eq!(url(bad), None, "{bad}");
    }
}

/// The store in PostgreSQL, if that is where it is.
fn postgres(
    file: &str,
    env: &'static [(&'static str, &'static str)],
    flags: &[&str],
) -> Option<PostgresSettings> {
    match serve(file, env, flags).unwrap().store {
        Store::Postgres(settings) => Some(*settings),
        Store::Directory(_) => None,
    }
}

#[test]
fn a_store_is_in_one_place_wherever_that_is_said() {
    assert!(postgres("", &[], &[]).is_none());
    let settings = postgres("postgres = \"host=a dbname=b\"\npostgres_schema = \"s\"", &[], &[]).unwrap();
    assert_eq!((settings.config.place().as_str(), settings.config.schema.as_str()), ("a:5432/b", "s"));
    let env = &[("ONEFOLD_POSTGRES", "host=c dbname=d"), ("ONEFOLD_POSTGRES_POOLER", "transaction")];
    let settings = postgres("postgres = \"host=a\"", env, &["--postgres-wait", "2s"]).unwrap();
    assert_eq!((settings.config.place().as_str(), settings.wait.as_ms()), ("c:5432/d", 2_000));
    assert!(settings.config.transaction_pooler && settings.config.listen.is_none());
    let around = ["--postgres-listen", "host=direct"];
    assert!(postgres("postgres = \"host=a\"", env, &around).unwrap().config.listen.is_some());
    let told = why(serve("data = \"d\"", env, &[]));
    assert!(told.contains("onefold.toml line 1, `data`") && told.contains("ONEFOLD_POSTGRES"), "{told}");
    let told = why(serve("", &[("ONEFOLD_DATA", "d")], &["--postgres", "host=a"]));
    assert!(told.contains("ONEFOLD_DATA") && told.contains("--postgres"), "{told}");
}

#[test]
fn an_address_of_a_database_never_stands_in_a_message() {
    for told in [
        why(serve("postgres = \"postgres://ada:s3cret@host:s3cret/db\"", &[], &[])),
        why(serve("", &[("ONEFOLD_POSTGRES", "host=a password=my s3cret=1")], &[])),
        why(serve("", &[], &["--postgres", "s3cret"])),
        why(serve("postgres = \"host=a\"\npostgres_listen = \"s3cret\"", &[], &[])),
    ] {
        assert!(!told.contains("s3cret") && told != "accepted", "{told}");
    }
    let settings = postgres("", &[("ONEFOLD_POSTGRES", "postgres://ada:s3cret@host/db")], &[]).unwrap();
    assert!(!format!("{:?} {}", settings.config, settings.config.place()).contains("s3cret"));
    for bad in ["postgres_connections = 0", "postgres_pooler = \"statement\"", "postgres_schema = \"pg_x\""] {
        assert_ne!(why(serve(&format!("postgres = \"host=a\"\n{bad}"), &[], &[])), "accepted", "{bad}");
    }
}
