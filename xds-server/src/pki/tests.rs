//! The authority's rules, one after the other.

use std::{
    collections::HashSet,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use policy::{time::WallTime, units::ServiceName};
use rcgen::{CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    Ca, CaError, Credentials, Flaw, Folder, Identity, IssueError, Peer, Purpose, check, days,
    renewal::{is_due, pause, renews_at, tick},
    tier::{date, pem_of},
};
use crate::{mesh::TrustDomain, private_file::Unusable};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// 2026-11-25T00:00Z.
fn now() -> WallTime {
    WallTime::from_unix_seconds(1_795_564_800)
}

fn later(by: Duration) -> WallTime {
    now().saturating_add(by)
}

fn orders() -> Identity {
    let name = ServiceName::new("order-service").unwrap();
    Identity::Member(TrustDomain::default(), name)
}

fn ca() -> Ca {
    Ca::make(days(3650), now()).unwrap()
}

fn issue(ca: &Ca, life: Duration, at: WallTime) -> Result<Credentials, IssueError> {
    ca.issue(&orders(), Purpose::Traffic, life, at)
}

fn first(chain: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()
}

#[test]
fn a_leaf_is_what_spiffe_asks_for() {
    let leaf = issue(&ca(), days(90), now()).unwrap();
    let der = first(&leaf.chain);
    let (_, parsed) = X509Certificate::from_der(&der).unwrap();
    let uris = super::peer::uris(&parsed);
    assert_eq!(uris, ["spiffe://mumbai.mesh/ns/default/sa/order-service"]);
    assert!(!parsed.is_ca());
    let usage = parsed.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature());
    assert!(!usage.value.key_cert_sign());
    let extended = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth && !extended.any);
    let (begin, end) = check::validity(&parsed);
    assert_eq!(
        begin,
        WallTime::from_unix_millis(now().unix_millis() - 120_000)
    );
    assert_eq!(end, later(days(90)));
    assert_eq!((leaf.not_before, leaf.not_after), (begin, end));
    let shown = format!("{leaf:?}");
    assert!(!shown.contains("PRIVATE"), "{shown}");
}

#[test]
fn serials_are_random_positive_and_unique() {
    let serials: HashSet<[u8; 16]> = (0..10_000)
        .map(|_| super::tier::serial().unwrap())
        .collect();
    assert_eq!(serials.len(), 10_000);
    assert!(serials.iter().all(|serial| serial[0] < 0x80));
    assert!(serials.iter().any(|serial| serial[0] >= 0x40));
}

#[test]
fn nothing_outlives_its_issuer() {
    let ca = Ca::make(days(10), now()).unwrap();
    assert_eq!(ca.issuing.not_after, later(days(10)));
    let leaf = issue(&ca, days(90), later(days(9))).unwrap();
    assert_eq!(leaf.not_after, later(days(10)));
    let error = issue(&ca, days(90), later(days(10))).unwrap_err();
    assert!(matches!(error, IssueError::IssuerExpired(_)), "{error}");
    assert_eq!(self::ca().issuing.not_after, later(days(365)));
}

#[test]
fn a_secret_that_is_no_good_is_not_sent() {
    let (ca, other) = (ca(), ca_of_somebody_else());
    let good = || issue(&ca, days(90), now()).unwrap();
    let flaw = |change: &dyn Fn(&mut Credentials)| {
        let mut credentials = good();
        change(&mut credentials);
        check::credentials(&credentials, now()).unwrap_err()
    };
    check::credentials(&good(), now()).unwrap();
    assert_eq!(flaw(&|one| one.chain.clear()), Flaw::NoCertificate);
    assert_eq!(flaw(&|one| one.key.clear()), Flaw::NoKey);
    assert_eq!(flaw(&|one| one.key = good().key), Flaw::WrongKey);
    let issuing_first = |one: &mut Credentials| {
        let leaf = pem_of(&first(&one.chain));
        one.chain = format!("{}{leaf}", one.chain.strip_prefix(&leaf).unwrap());
    };
    assert_eq!(flaw(&issuing_first), Flaw::WrongKey);
    let alone = |one: &mut Credentials| one.chain = pem_of(&first(&one.chain));
    assert!(matches!(flaw(&alone), Flaw::Chain(_)));
    let foreign = |one: &mut Credentials| one.bundle = other.bundle();
    assert!(matches!(flaw(&foreign), Flaw::Chain(_)));
    let renamed = |one: &mut Credentials| {
        one.identity = Identity::Server(TrustDomain::default());
    };
    assert!(matches!(flaw(&renamed), Flaw::Identity(_)));
    let at = good().not_after;
    let late = check::credentials(&good(), at).unwrap_err();
    assert!(matches!(late, Flaw::Expired(_)));
}

fn ca_of_somebody_else() -> Ca {
    ca()
}

#[test]
fn a_holder_is_who_the_only_uri_says() {
    let ca = ca();
    let node = ca
        .issue(&orders(), Purpose::Node("order-1"), days(90), now())
        .unwrap();
    let peer = Peer::of(&first(&node.chain)).unwrap();
    assert_eq!(
        (peer.name.as_str(), peer.node_id.as_str()),
        ("order-service", "order-1")
    );
    assert_eq!(peer.trust_domain, TrustDomain::default());
    assert_eq!(peer.not_after, later(days(90)));
    let denied = |uris: &[&str]| {
        let der = with_uris(&ca, uris);
        Peer::of(&der).unwrap_err().to_string()
    };
    let own = "spiffe://mumbai.mesh/ns/default/sa/order-service";
    assert!(denied(&[]).contains("not 0"));
    assert!(denied(&[own, "spiffe://mumbai.mesh/ns/default/sa/b"]).contains("not 2"));
    for wrong in [
        "spiffe://mumbai.mesh/ns/mumbai-mesh/sa/server",
        "spiffe://mumbai.mesh/ns/default/sa/a/b",
        "spiffe://mumbai.mesh/ns/default/sa/",
        "spiffe://MUMBAI.mesh/ns/default/sa/a",
        "spiffe://mumbai.mesh:1/ns/default/sa/a",
        "https://mumbai.mesh/ns/default/sa/a",
    ] {
        assert!(denied(&[wrong]).contains("no service"), "{wrong}");
    }
    let root = Peer::of(&ca.root.certificate).unwrap_err();
    assert!(root.to_string().contains("authority"), "{root}");
}

/// As nobody of us issues.
fn with_uris(ca: &Ca, uris: &[&str]) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    let san = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
    params.subject_alt_names = uris.iter().map(san).collect();
    params.not_after = date(later(DAY)).unwrap();
    let key = KeyPair::generate().unwrap();
    let signed = params.signed_by(&key, &ca.issuing.issuer).unwrap();
    signed.der().clone()
}

#[test]
fn renewal_comes_at_two_thirds_of_life_with_a_jitter_that_does_not_change() {
    let ca = ca();
    let life = days(90);
    let leaves: Vec<_> = (0..200).map(|_| issue(&ca, life, now()).unwrap()).collect();
    let ages: Vec<Duration> = leaves
        .iter()
        .map(|leaf| super::between(now(), renews_at(leaf)))
        .collect();
    let (least, most) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
    assert!(*least >= life * 17 / 30 && *most <= life * 23 / 30);
    assert!(
        *most - *least > life / 10,
        "it is spread: {least:?} to {most:?}"
    );
    for (leaf, age) in leaves.iter().zip(ages) {
        assert_eq!(renews_at(leaf), later(age));
        assert!(!is_due(leaf, now()));
        assert!(is_due(leaf, later(age)));
        // A clock that is ten years ahead or behind.
        assert!(is_due(leaf, later(days(3650))));
        assert!(is_due(leaf, super::before(now(), days(3650))));
    }
    let short = issue(&ca, Duration::from_secs(60), now()).unwrap();
    let age = super::between(now(), renews_at(&short));
    assert!(
        (34..=46).contains(&age.as_secs()),
        "it counts from the moment of issue: {age:?}"
    );
}

#[test]
fn after_failures_it_is_tried_again_ever_more_rarely() {
    let pauses: Vec<u128> = [1, 2, 3, 9, 10, 99]
        .map(|times| pause(times).as_millis())
        .into();
    assert_eq!(pauses, [500, 1000, 2000, 128_000, 150_000, 150_000]);
    assert_eq!(tick(days(90)), Duration::from_secs(10));
    assert_eq!(tick(Duration::from_secs(6)), Duration::from_millis(100));
}

struct Disk {
    dir: tempfile::TempDir,
    folder: Folder,
}

impl Disk {
    /// With an authority in it.
    fn new() -> Self {
        let disk = Self::empty();
        let (_, is_new) = disk.folder.load_or_make(days(3650), now()).unwrap();
        assert!(is_new);
        disk
    }

    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::of(dir.path(), None);
        Self { dir, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join("ca");
        if name.is_empty() {
            folder
        } else {
            folder.join(name)
        }
    }

    fn refusal(&self) -> String {
        match self.folder.load_or_make(days(3650), now()) {
            Ok(_) => panic!("it was taken"),
            Err(error) => error.to_string(),
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_authority_is_made_once_for_its_owner_alone() {
    let disk = Disk::new();
    assert_eq!(mode(&disk.path("")), 0o700);
    assert_eq!(mode(&disk.path("root.pem")), 0o600);
    assert_eq!(mode(&disk.path("issuing.pem")), 0o600);
    let (again, is_new) = disk.folder.load_or_make(days(1), now()).unwrap();
    assert!(!is_new);
    let root = fs::read_to_string(disk.path("root.pem")).unwrap();
    assert!(root.starts_with(&again.bundle()));
    let others: Vec<_> = fs::read_dir(disk.dir.path()).unwrap().collect();
    assert_eq!(others.len(), 1, "{others:?}");
}

#[test]
fn a_new_issuing_certificate_replaces_the_old_one_whole() {
    let disk = Disk::new();
    let ca = disk.folder.load(now()).unwrap();
    let at = ca.issuing_renews_at();
    assert!(at > later(days(240)) && at < later(days(245)));
    let issuing = super::tier::Tier::issuing(&ca.root, at).unwrap();
    disk.folder.keep_issuing(&issuing).unwrap();
    assert_eq!(mode(&disk.path("issuing.pem")), 0o600);
    let renewed = disk.folder.load(at).unwrap();
    assert_eq!(renewed.issuing.not_after, at.saturating_add(days(365)));
    // Those who trust the root trust what both have issued.
    let mut old = issue(&ca, days(90), at).unwrap();
    old.bundle = renewed.bundle();
    check::credentials(&old, at).unwrap();
}

#[test]
fn what_others_may_use_or_what_is_a_link_is_refused_with_its_name_and_the_fix() {
    let disk = Disk::new();
    for (name, wide, narrow) in [("root.pem", 0o640, 0o600), ("", 0o750, 0o700)] {
        let path = disk.path(name);
        chmod(&path, wide);
        let refusal = disk.refusal();
        assert!(
            refusal.contains(&format!("chmod {narrow:04o} {}", path.display())),
            "{refusal}"
        );
        chmod(&path, narrow);
    }
    let (issuing, elsewhere) = (disk.path("issuing.pem"), disk.dir.path().join("elsewhere"));
    fs::rename(&issuing, &elsewhere).unwrap();
    let refusal = disk.refusal();
    assert!(refusal.contains("issuing.pem is missing"), "{refusal}");
    symlink(&elsewhere, &issuing).unwrap();
    let refusal = disk.refusal();
    assert!(
        refusal.contains("issuing.pem is a symbolic link"),
        "{refusal}"
    );
    fs::remove_file(&issuing).unwrap();
    fs::rename(&elsewhere, &issuing).unwrap();
    fs::rename(disk.path(""), &elsewhere).unwrap();
    symlink(&elsewhere, disk.dir.path().join("ca")).unwrap();
    let refusal = disk.refusal();
    assert!(refusal.contains("symbolic link or no folder"), "{refusal}");
}

#[test]
fn an_authority_that_cannot_issue_is_refused_with_its_name_and_the_reason() {
    let disk = Disk::new();
    let kept = ["root.pem", "issuing.pem"].map(|name| fs::read_to_string(disk.path(name)).unwrap());
    let other = ca_of_somebody_else();
    let refusal = |name: &str, text: &str| {
        fs::write(disk.path(name), text).unwrap();
        let refusal = disk.refusal();
        for (name, text) in ["root.pem", "issuing.pem"].iter().zip(&kept) {
            fs::write(disk.path(name), text).unwrap();
        }
        assert!(refusal.contains(name), "{refusal}");
        refusal
    };
    let (root, issuing) = (&kept[0], &kept[1]);
    let split = |text: &str| {
        let at = text.find("-----BEGIN PRIVATE").unwrap();
        (text[..at].to_string(), text[at..].to_string())
    };
    assert!(refusal("root.pem", "").contains("no certificate"));
    assert!(refusal("root.pem", &split(root).0).contains("no private key"));
    let mixed = format!("{}{}", split(issuing).0, split(root).1);
    assert!(refusal("issuing.pem", &mixed).contains("not the certificate's"));
    assert!(
        refusal("issuing.pem", &other.issuing.to_pem(None).unwrap()).contains("does not verify")
    );
    let no_ca = made(IsCa::ExplicitNoCa, vec![KeyUsagePurpose::KeyCertSign]);
    assert!(refusal("issuing.pem", &no_ca).contains("CA:TRUE"));
    let unconstrained = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let no_sign = made(unconstrained, vec![KeyUsagePurpose::DigitalSignature]);
    assert!(refusal("issuing.pem", &no_sign).contains("keyCertSign"));
    let expired = Ca::make(DAY, super::before(now(), 2 * DAY)).unwrap();
    assert!(refusal("root.pem", &expired.root.to_pem(None).unwrap()).contains("ended at"));
    let early = Ca::make(DAY, later(DAY)).unwrap();
    assert!(refusal("root.pem", &early.root.to_pem(None).unwrap()).contains("clock"));
    disk.folder.load(now()).unwrap();
}

/// A certificate of the wrong kind with its key.
fn made(is_ca: IsCa, key_usages: Vec<KeyUsagePurpose>) -> String {
    let mut params = CertificateParams::default();
    params.is_ca = is_ca;
    params.key_usages = key_usages;
    params.not_after = date(later(DAY)).unwrap();
    let key = KeyPair::generate().unwrap();
    let signed = params.self_signed(&key).unwrap();
    format!("{}{}", pem_of(signed.der()), key.serialize_pem())
}

#[test]
fn keys_lie_under_a_passphrase_where_one_is_given_and_open_ones_are_put_under_it() {
    let disk = Disk::new();
    let file = disk.dir.path().join("passphrase");
    let sealed_by = |passphrase: &str| {
        fs::write(&file, passphrase).unwrap();
        chmod(&file, 0o600);
        let passphrase = super::Passphrase::read(&file).unwrap();
        Folder::of(disk.dir.path(), Some(Arc::new(passphrase)))
    };
    let open = |name: &str| {
        let text = fs::read_to_string(disk.path(name)).unwrap();
        text.contains("BEGIN PRIVATE KEY")
    };
    let sealed = sealed_by("correct horse battery");
    let (ca, _) = sealed.load_or_make(days(1), now()).unwrap();
    assert!(open("root.pem") && open("issuing.pem"));
    assert!(sealed.seal(&ca).unwrap(), "they lay open");
    assert!(!open("root.pem") && !open("issuing.pem"));
    assert_eq!(mode(&disk.path("root.pem")), 0o600);
    assert!(!sealed.seal(&ca).unwrap(), "once");

    let again = sealed.load(now()).unwrap();
    assert_eq!(again.bundle(), ca.bundle());
    sealed.keep_issuing(&again.issuing).unwrap();
    assert!(!open("issuing.pem"));

    assert!(
        disk.refusal()
            .contains("root.pem: its private key is under a passphrase")
    );
    chmod(&file, 0o644);
    let wide = super::Passphrase::read(&file).err().unwrap().to_string();
    assert!(wide.contains("chmod 0600"), "{wide}");
    fs::write(&file, "short").unwrap();
    chmod(&file, 0o440);
    let short = super::Passphrase::read(&file).err().unwrap().to_string();
    assert!(
        short.contains("12 or more characters, at most 4096 bytes"),
        "{short}"
    );
    assert!(short.contains("holds 5 characters"), "{short}");

    let other = sealed_by("battery horse correct");
    let refused = other.load(now()).err().unwrap().to_string();
    assert!(
        refused.contains("is not opened by this passphrase"),
        "{refused}"
    );

    let new = Disk::empty();
    let folder = Folder::of(
        new.dir.path(),
        Some(Arc::new(super::Passphrase::read(&file).unwrap())),
    );
    folder.load_or_make(days(1), now()).unwrap();
    let text = fs::read_to_string(new.path("root.pem")).unwrap();
    assert!(text.contains("BEGIN ENCRYPTED PRIVATE KEY"));
}

#[test]
fn a_disk_that_refuses_is_told() {
    let disk = Disk::empty();
    fs::write(disk.dir.path().join("ca"), "").unwrap();
    assert!(disk.refusal().contains("no folder"));
    let nowhere = Folder::of(&disk.dir.path().join("none"), None);
    let error = nowhere.load_or_make(days(1), now()).err().unwrap();
    assert!(
        matches!(error, CaError::File(Unusable::Disk { .. })),
        "{error}"
    );
}
