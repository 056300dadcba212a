//! TLS to the database, checked as its address says.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::*;

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn put(postgres: &Postgres, file: &str, text: &str) {
    let lines = text.lines().map(|line| format!("('{line}')")).collect::<Vec<_>>().join(",");
    postgres.psql(&format!("COPY (VALUES {lines}) TO PROGRAM 'umask 077; cat > {file}'"));
}

/// `localhost` is who the certificate is for; 127.0.0.1 is not.
#[test]
fn certificates_are_checked_as_the_address_says() {
    let (room, port) = (Room::new(), free_port().to_string());
    let postgres = Postgres::start(&[("listen_addresses", "127.0.0.1"), ("port", &port), ("fsync", "off")]);
    let ran = room.run(
        &format!("host=127.0.0.1 port={port} user={USER} dbname={DATABASE} sslmode=require"),
        &["migrate"],
    );
    assert!(ran.code == Some(1) && ran.err.contains("does not support TLS"), "{ran:?}");

    let (ours, other) = (authority("ours"), authority("another"));
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &ours).unwrap();
    put(&postgres, "server.crt", &certificate.pem());
    put(&postgres, "server.key", &key.serialize_pem());
    postgres.psql("ALTER SYSTEM SET ssl = on");
    postgres.psql("CREATE ROLE ada LOGIN SUPERUSER PASSWORD 's3cret'");
    postgres.psql("COPY (SELECT 'host all ada all scram-sha-256') TO PROGRAM 'cat - pg_hba.conf > new && mv new pg_hba.conf'");
    postgres.stop_immediately();
    postgres.start_again();
    for (name, authority) in [("ours.pem", &ours), ("other.pem", &other)] {
        std::fs::write(room.dir.path().join(name), authority.pem()).unwrap();
    }
    let to = |host: &str, how: &str| {
        let of_host = format!("host={host} hostaddr=127.0.0.1 port={port} dbname={DATABASE}");
        room.run(&format!("{of_host} user=ada password=s3cret {how}"), &["migrate"])
    };
    for (host, how) in [
        ("localhost", "sslmode=verify-full sslrootcert=ours.pem"),
        ("127.0.0.1", "sslmode=verify-ca sslrootcert=ours.pem"),
        ("127.0.0.1", "sslmode=require sslrootcert=ours.pem"),
        ("127.0.0.1", "sslmode=require"),
        ("127.0.0.1", "sslmode=prefer"),
        ("127.0.0.1", "sslmode=disable"),
        // The server compares the hash of its certificate with ours, which without TLS there is not.
        ("localhost", "sslmode=require channel_binding=require"),
    ] {
        let ran = to(host, how);
        assert_eq!(ran.code, Some(0), "{host} {how}: {ran:?}");
    }
    for (host, how) in [
        ("127.0.0.1", "sslmode=verify-full sslrootcert=ours.pem"),
        ("localhost", "sslmode=verify-full sslrootcert=other.pem"),
        ("localhost", "sslmode=verify-full"),
        ("localhost", "sslmode=verify-ca sslrootcert=other.pem"),
        ("localhost", "sslmode=require sslrootcert=other.pem"),
    ] {
        let ran = to(host, how);
        assert!(
            ran.code == Some(1) && ran.err.contains("no TLS with the PostgreSQL server"),
            "{host} {how}: {ran:?}"
        );
    }
    assert_eq!(to("localhost", "sslmode=disable channel_binding=require").code, Some(1));
    for (how, words) in [
        ("sslmode=verify-full sslrootcert=missing.pem", "missing.pem cannot be read"),
        ("sslmode=verify-ca", "needs sslrootcert=FILE"),
        ("sslmode=always", "sslmode is disable, prefer, require, verify-ca or verify-full"),
    ] {
        let ran = to("localhost", how);
        assert!(ran.code == Some(2) && ran.err.contains(words), "{how}: {ran:?}");
    }
    // Unless told otherwise it speaks TLS with whoever does.
    let server = room.serve(&format!("host=127.0.0.1 port={port} dbname={DATABASE} user={USER}"));
    let plain = "SELECT count(*) FILTER (WHERE ssl), count(*) FILTER (WHERE NOT ssl) FROM pg_stat_ssl JOIN \
                 pg_stat_activity USING (pid) WHERE application_name = 'onefold' AND usename = 'onefold'";
    let counts = postgres.psql(plain);
    assert!(counts.ends_with("|0") && counts != "0|0", "{counts}");
    drop(server);
}
