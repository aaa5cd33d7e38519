//! The types of registry in settings (reference/drydock.md section 3, "Registries"): where each is
//! and how its logins are spelt. All speak the OCI distribution protocol; this table is all that
//! tells them apart.

use std::{fmt, str::FromStr};

/// One way to log in, as the settings spell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `login` and `password`.
    Password,
    /// `login` and `token`.
    LoginToken,
    /// `auth`: base64 of `login:password`.
    Auth,
    /// `username` and `token`.
    UserToken,
    /// `token` alone, shown with this login name.
    Token(&'static str),
    /// `apikey` alone, shown with this login name.
    ApiKey(&'static str),
    /// `namespace`, `account` and `token`: the login is `namespace+account`.
    Robot,
    /// `clientid` and `clientsecret`.
    Client,
    /// `accesskeyid`, `secretaccesskey` and `region`: exchanged for a password that lasts 12 hours.
    AwsKey,
    /// `clientemail` and `privatekey`: exchanged for a token that lasts an hour.
    GoogleKey,
}

impl Form {
    /// The settings that belong together.
    pub const fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Password => &["login", "password"],
            Self::LoginToken => &["login", "token"],
            Self::Auth => &["auth"],
            Self::UserToken => &["username", "token"],
            Self::Token(_) => &["token"],
            Self::ApiKey(_) => &["apikey"],
            Self::Robot => &["namespace", "account", "token"],
            Self::Client => &["clientid", "clientsecret"],
            Self::AwsKey => &["accesskeyid", "secretaccesskey", "region"],
            Self::GoogleKey => &["clientemail", "privatekey"],
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.keys().join(" and "))
    }
}

/// Whether a type is there without settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unset {
    /// As the anonymous instance `public`.
    Public,
    Absent,
}

/// What is known of one type.
struct Facts {
    word: &'static str,
    /// The address that is shown; `None` when everyone has their own, or many.
    url: Option<&'static str>,
    /// As image references name them. `*` is one label, or the beginning of one.
    hosts: &'static [&'static str],
    /// Other hosts that hand out tokens, where the registry says so.
    token_hosts: &'static [&'static str],
    forms: &'static [Form],
    unset: Unset,
}

const OWN: &[Form] = &[Form::Password, Form::Auth];
const WITH_TOKEN: &[Form] = &[Form::Password, Form::LoginToken, Form::Auth];

macro_rules! kinds {
    ($($kind:ident: $word:literal, $url:expr, $hosts:expr, $token_hosts:expr, $forms:expr, $unset:ident;)+) => {
        /// A type of registry.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum RegistryKind { $($kind),+ }

        impl RegistryKind {
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            const fn facts(self) -> &'static Facts {
                match self {
                    $(Self::$kind => &Facts {
                        word: $word,
                        url: $url,
                        hosts: $hosts,
                        token_hosts: $token_hosts,
                        forms: $forms,
                        unset: Unset::$unset,
                    }),+
                }
            }
        }
    };
}

kinds! {
    Acr: "acr", None, &["*.azurecr.io"], &[], &[Form::Client], Absent;
    Alicr: "alicr", None,
        &[
            "registry.*.aliyuncs.com",
            "registry-intl.*.aliyuncs.com",
            "*.*.cr.aliyuncs.com",
            "cr.aliyuncs.com",
        ],
        &["dockerauth.*.aliyuncs.com", "dockerauth-ee.*.aliyuncs.com"],
        OWN, Public;
    Artifactory: "artifactory", None, &[], &[], OWN, Absent;
    Codeberg: "codeberg", Some("https://codeberg.org"), &["codeberg.org"], &[], OWN, Public;
    Custom: "custom", None, &[], &[], OWN, Absent;
    Dhi: "dhi", Some("https://dhi.io"), &["dhi.io"], &["auth.docker.io"], WITH_TOKEN, Public;
    Docr: "docr", Some("https://registry.digitalocean.com"), &["registry.digitalocean.com"],
        &["api.digitalocean.com"], &[Form::Password, Form::Token("doctl"), Form::Auth], Public;
    Ecr: "ecr", None,
        &[
            "*.dkr.ecr.*.amazonaws.com",
            "*.dkr.ecr.*.amazonaws.com.cn",
            "*.dkr.ecr-fips.*.amazonaws.com",
            "public.ecr.aws",
        ],
        &[], &[Form::AwsKey], Public;
    Forgejo: "forgejo", None, &[], &[], OWN, Absent;
    Gar: "gar", None, &["*-docker.pkg.dev"], &[], &[Form::GoogleKey], Public;
    Gcr: "gcr", Some("https://gcr.io"), &["gcr.io", "*.gcr.io"], &["gcr.io"],
        &[Form::GoogleKey], Public;
    Ghcr: "ghcr", Some("https://ghcr.io"), &["ghcr.io"], &[], &[Form::UserToken], Public;
    Gitea: "gitea", None, &[], &[], OWN, Absent;
    // Any login name does beside a personal, project or job token; a deploy token has its own.
    Gitlab: "gitlab", Some("https://registry.gitlab.com"), &["registry.gitlab.com"],
        &["gitlab.com"], &[Form::Token("oauth2"), Form::LoginToken], Absent;
    Harbor: "harbor", None, &[], &[], OWN, Absent;
    Hub: "hub", Some("https://registry-1.docker.io"), &["docker.io"], &["auth.docker.io"],
        WITH_TOKEN, Public;
    Ibmcr: "ibmcr", None, &["icr.io", "*.icr.io", "private.*.icr.io"], &[],
        &[Form::Password, Form::ApiKey("iamapikey"), Form::Auth], Public;
    Lscr: "lscr", Some("https://lscr.io"), &["lscr.io"], &["ghcr.io"], &[Form::UserToken], Public;
    Mau: "mau", Some("https://dock.mau.dev"), &["dock.mau.dev"], &[], &[Form::Token("oauth2")],
        Public;
    Nexus: "nexus", None, &[], &[], OWN, Absent;
    Ocir: "ocir", None, &["*.ocir.io", "ocir.*.oci.oraclecloud.com"], &[], OWN, Public;
    Quay: "quay", Some("https://quay.io"), &["quay.io"], &[], &[Form::Robot], Public;
    Trueforge: "trueforge", Some("https://oci.trueforge.org"), &["oci.trueforge.org"],
        &["ghcr.io", "quay.io"], &[Form::UserToken], Public;
}

impl RegistryKind {
    /// As in `DD_REGISTRY_<TYPE>_…` and `GET /registries`, in lower case.
    pub const fn as_str(self) -> &'static str {
        self.facts().word
    }

    /// The words of all types, by name.
    pub fn words() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|kind| kind.as_str())
    }

    /// The type that a host belongs to by its name. Self-hosted types have no such names.
    pub fn of_host(host: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|kind| kind.serves(host));
        found.copied()
    }

    /// Where the only registry of this type is.
    pub const fn url(self) -> Option<&'static str> {
        self.facts().url
    }

    /// Its hosts as image references name them; `*` is one label, or the beginning of one.
    pub const fn hosts(self) -> &'static [&'static str] {
        self.facts().hosts
    }

    /// The ways of logging in.
    pub const fn forms(self) -> &'static [Form] {
        self.facts().forms
    }

    /// Whether instances must say where they are.
    pub const fn needs_url(self) -> bool {
        self.facts().hosts.is_empty()
    }

    /// Whether `host`, as image references name it, is a registry of this type.
    pub fn serves(self, host: &str) -> bool {
        self.facts().hosts.iter().any(|p| host_matches(p, host))
    }

    /// Whether a registry of this type may send clients to `host` for tokens.
    pub fn trusts(self, host: &str) -> bool {
        let hosts = self.facts().token_hosts;
        hosts.iter().any(|p| host_matches(p, host))
    }

    /// Whether there is an anonymous instance `public` without settings.
    pub fn is_public(self) -> bool {
        self.facts().unset == Unset::Public
    }

    /// The way of logging in that the credential settings `given` are; `None`: anonymous.
    ///
    /// # Errors
    /// Settings that are not of this type, are incomplete, or do not belong together.
    pub fn form(self, given: &[&str]) -> Result<Option<Form>, FormProblem> {
        let forms = self.facts().forms;
        let Some(first) = given.first() else {
            return Ok(None);
        };
        if let Some(foreign) = given
            .iter()
            .find(|key| !forms.iter().any(|form| form.keys().contains(key)))
        {
            return Err(self.problem(foreign, "there is no such setting for this type"));
        }
        let has_all_of = |form: &&Form| given.iter().all(|key| form.keys().contains(key));
        let mut candidates: Vec<(Vec<&str>, Form)> = forms
            .iter()
            .filter(has_all_of)
            .map(|form| {
                let keys = form.keys().iter().copied();
                (keys.filter(|key| !given.contains(key)).collect(), *form)
            })
            .collect();
        candidates.sort_by_key(|(missing, _)| missing.len());
        match candidates.first() {
            Some((missing, form)) => match missing.first() {
                None => Ok(Some(*form)),
                Some(key) => {
                    let set: Vec<&str> = form
                        .keys()
                        .iter()
                        .copied()
                        .filter(|key| given.contains(key))
                        .collect();
                    let verb = if set.len() == 1 { "is" } else { "are" };
                    let set = set.join(" and ");
                    Err(self.problem(key, &format!("not set, but {set} {verb}")))
                }
            },
            None => {
                let others = given[1..].join(" and ");
                Err(self.problem(first, &format!("does not belong together with {others}")))
            }
        }
    }

    fn problem(self, key: &str, what: &str) -> FormProblem {
        let forms: Vec<String> = self.facts().forms.iter().map(Form::to_string).collect();
        FormProblem {
            key: key.to_owned(),
            what: format!(
                "{what}; a registry of the type {} takes {}",
                self.as_str(),
                forms.join(", or ")
            ),
        }
    }
}

impl FromStr for RegistryKind {
    type Err = ();

    /// In any case.
    fn from_str(text: &str) -> Result<Self, ()> {
        let wanted = text.to_ascii_lowercase();
        let found = Self::ALL.iter().find(|kind| kind.as_str() == wanted);
        found.copied().ok_or(())
    }
}

/// What is wrong with the credential settings of a registry. Names settings, never values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct FormProblem {
    /// The setting to look at first.
    pub key: String,
    pub what: String,
}

/// `*` stands for one or more characters of one label.
fn host_matches(pattern: &str, host: &str) -> bool {
    let mut labels = host.split('.');
    let all = pattern.split('.').all(|wanted| {
        let Some(label) = labels.next() else {
            return false;
        };
        match wanted.split_once('*') {
            None => label.eq_ignore_ascii_case(wanted),
            // Our patterns have at most one in a label, at its beginning.
            Some((_, end)) => label.len() > end.len() && label.to_ascii_lowercase().ends_with(end),
        }
    });
    all && labels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_the_23_types_of_which_15_are_public() {
        let words: Vec<&str> = RegistryKind::words().collect();
        assert_eq!(words.len(), 23);
        assert!(words.is_sorted());
        let public = RegistryKind::ALL.iter().filter(|kind| kind.is_public());
        let public: Vec<&str> = public.map(|kind| kind.as_str()).collect();
        assert_eq!(
            public,
            [
                "alicr",
                "codeberg",
                "dhi",
                "docr",
                "ecr",
                "gar",
                "gcr",
                "ghcr",
                "hub",
                "ibmcr",
                "lscr",
                "mau",
                "ocir",
                "quay",
                "trueforge"
            ]
        );
    }

    #[test]
    fn hosts_belong_to_the_type_that_runs_them() {
        let cases = [
            ("docker.io", Some(RegistryKind::Hub)),
            ("ghcr.io", Some(RegistryKind::Ghcr)),
            (
                "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
                Some(RegistryKind::Ecr),
            ),
            (
                "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
                Some(RegistryKind::Ecr),
            ),
            ("public.ecr.aws", Some(RegistryKind::Ecr)),
            ("Team.azurecr.io", Some(RegistryKind::Acr)),
            ("europe-docker.pkg.dev", Some(RegistryKind::Gar)),
            ("eu.gcr.io", Some(RegistryKind::Gcr)),
            ("gcr.io", Some(RegistryKind::Gcr)),
            ("fra.ocir.io", Some(RegistryKind::Ocir)),
            (
                "registry.cn-hangzhou.aliyuncs.com",
                Some(RegistryKind::Alicr),
            ),
            (
                "team-registry.cn-hangzhou.cr.aliyuncs.com",
                Some(RegistryKind::Alicr),
            ),
            ("de.icr.io", Some(RegistryKind::Ibmcr)),
            ("dock.mau.dev", Some(RegistryKind::Mau)),
            ("oci.trueforge.org", Some(RegistryKind::Trueforge)),
            ("azurecr.io", None),
            (".azurecr.io", None),
            ("a.b.azurecr.io", None),
            ("team.azurecr.io.evil.net", None),
            ("1.dkr.ecr.x.evil.amazonaws.com", None),
            ("1.dkr.ecr.eu-west-1.amazonaws.com.evil.net", None),
            ("bucket.oss-cn-hangzhou.aliyuncs.com", None),
            ("-docker.pkg.dev", None),
            ("evilgcr.io", None),
            ("ghcr.io:444", None),
            ("registry.example.org", None),
            ("", None),
        ];
        for (host, kind) in cases {
            assert_eq!(RegistryKind::of_host(host), kind, "{host}");
        }
    }

    #[test]
    fn each_type_takes_its_own_forms_of_login() {
        let check = |kind: RegistryKind, given: &[&str]| kind.form(given).map_err(|e| e.key);
        for kind in RegistryKind::ALL {
            assert_eq!(check(*kind, &[]), Ok(None), "{kind:?}");
            for form in kind.forms() {
                assert_eq!(
                    check(*kind, form.keys()),
                    Ok(Some(*form)),
                    "{kind:?} {form}"
                );
                for (at, missing) in form
                    .keys()
                    .iter()
                    .enumerate()
                    .filter(|_| form.keys().len() > 1)
                {
                    let mut half = form.keys().to_vec();
                    half.remove(at);
                    // What is left may be another form, or the beginning of one.
                    let problem = check(*kind, &half);
                    assert_ne!(problem, Ok(Some(*form)), "{kind:?} {half:?}");
                    if kind.forms().len() == 1 {
                        assert_eq!(problem, Err((*missing).to_owned()), "{kind:?} {half:?}");
                    }
                }
            }
        }
        for (kind, given, named) in [
            (RegistryKind::Hub, &["region"][..], "region"),
            (RegistryKind::Ghcr, &["login", "password"], "login"),
            (RegistryKind::Hub, &["login", "password", "auth"], "login"),
            (RegistryKind::Hub, &["login", "password", "token"], "login"),
            (RegistryKind::Quay, &["token"], "namespace"),
            (
                RegistryKind::Ecr,
                &["accesskeyid", "region"],
                "secretaccesskey",
            ),
            (RegistryKind::Custom, &["password"], "login"),
        ] {
            assert_eq!(
                check(kind, given),
                Err(named.to_owned()),
                "{kind:?} {given:?}"
            );
        }
    }
}
