//! The command line: what can be said, and how it is explained.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser, Subcommand};
use wharf_types::{AccountId, Reference, Region, RepositoryName};

use crate::client::arguments::ClientAction;
use crate::import;
use crate::in_use::InUseAction;
use crate::migrate;
use crate::settings::{Kind, SETTINGS, Setting, Value};

/// Amazon ECR that you run yourself: the ECR API for AWS clients, OCI Distribution for container clients.
#[derive(Debug, Parser)]
#[command(name = "wharf", version, max_term_width = 110, after_help = EXAMPLES)]
pub struct Cli {
    /// Which configuration and data directory.
    #[command(flatten)]
    pub place: Place,
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

const EXAMPLES: &str = "\
Examples:
  wharf serve                                          # a registry on http://127.0.0.1:5050, data in ./wharf-data
  aws ecr create-repository --repository-name team/app # with the AWS_… lines that the first start prints
  aws ecr get-login-password | docker login -u AWS --password-stdin 127.0.0.1:5050
  wharf token issue --account 123456789012 --ttl 1h    # a registry password without the AWS CLI
  wharf login --registry 127.0.0.1:5050                # docker login with the AWS credentials at hand
  wharf aws-profile                                    # a profile for the AWS CLI: aws --profile wharf ecr …
  wharf account create --json                          # one more account, also while the server runs
  wharf config                                         # every setting, its value, and where that comes from

Each setting is also a variable (WHARF_LISTEN, WHARF_LIMITS_DRAIN, …) and a key of wharf.toml. Flags win over
variables, variables over the file. Exit status: 0 done, 1 failed, 2 used wrongly.";

/// The two settings that every command needs.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// Directory that holds everything wharf keeps [default: ./wharf-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Configuration file [default: wharf.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "WHARF_CONFIG")]
    pub config: Option<PathBuf>,
}

/// What wharf can be asked to do.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Serve the registry until told to stop
    #[command(after_help = "\
Examples:
  wharf serve
  wharf serve --data-dir /var/lib/wharf --listen 0.0.0.0:443 --tls files --tls-cert cert.pem --tls-key key.pem
  wharf serve --tls self-signed                        # for development; prints how clients come to trust it
  wharf serve --domain registry.example.com --oci-dialect ecr

SIGTERM and SIGINT drain: no new connections, requests in flight are finished, exit status 0.
`wharf serve --help` lists all settings.")]
    Serve(SettingFlags),
    /// Manage accounts
    #[command(subcommand)]
    Account(AccountAction),
    /// Manage access keys
    #[command(subcommand)]
    Key(KeyAction),
    /// Issue registry passwords
    #[command(subcommand)]
    Token(TokenAction),
    /// Collect what nothing refers to any more
    #[command(
        after_help = "Runs beside a running server, which also does it by itself (setting gc.interval)."
    )]
    Gc(Output),
    /// Read everything that is stored and compare it with its digest
    #[command(
        after_help = "What does not match is quarantined, so that it is never served and a new push replaces it."
    )]
    Scrub(Output),
    /// Copy everything into a directory that wharf can be started from
    #[command(after_help = "\
Examples:
  wharf backup --to /backup/wharf                      # again: only what is new is copied, what is gone is removed

Runs beside a running server; what was acknowledged before it began is in it. The root key is not: keep a copy of it
elsewhere. To restore, copy the directory to where the data directory was, put `root-key` into it, and run wharf scrub.
For metadata in sqlite. Exit status 1 if something that ought to be stored is missing.")]
    Backup {
        /// An empty or absent directory, or an earlier backup of the same deployment
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Restore deleted images that are still in the trash
    #[command(after_help = "\
Examples:
  wharf undelete team/app                              # whatever of it is in the trash
  wharf undelete team/app sha256:4c0d…                 # one image, with its tags
  wharf undelete team/app --account 111122223333 --region eu-west-1 sha256:4c0d…")]
    Undelete(Undelete),
    /// Carry lifecycle policies out, or see what they would do
    #[command(subcommand)]
    Lifecycle(LifecycleAction),
    /// Tell the registry which images run, or see what it was told
    #[command(subcommand)]
    InUse(InUseAction),
    /// Copy repositories of another registry, of Amazon ECR or of an image layout into a wharf
    #[command(after_help = "\
Examples:
  wharf import oci://registry.example.com              # every repository that it lists
  wharf import oci://docker.io/library/alpine --tags '3.*' --prefix mirror
  wharf import ecr://123456789012.dkr.ecr.eu-west-1.amazonaws.com/team
  wharf import ecr://wharf.example.com --profile old --to https://new.example.com --to-profile new
  wharf import layout:build/image --repository team/app
  wharf import ecr://… --dry-run                       # only tell how the two differ

Copies images with their tags, digests and referrers, byte for byte; from ecr:// also policies, lifecycle, mutability,
scanning, encryption and tags of repositories. What is there already is not transferred again: an import that was
interrupted is started again and goes on. At the end both sides are compared. Logins of the source are docker's (docker
login), or --username; for ecr:// the AWS CLI's variables and profiles. See docs/moving.md.

Exit status: 0 source and destination are the same, 1 they differ or it failed, 2 used wrongly.")]
    Import(Box<import::Arguments>),
    /// Move a whole deployment, which nobody serves meanwhile, to other stores
    #[command(after_help = "\
Examples:
  wharf migrate --from /var/lib/wharf --to /mnt/wharf
  wharf migrate --from /var/lib/wharf --to postgres://wharf@db.example.com/wharf s3://bucket/prefix
  wharf migrate --from postgres://… s3://… --to /var/lib/wharf

A place is a data directory, or two: metadata (postgres://) and blobs (s3://, gs://, az://), as the settings have them.
Copies all metadata row by row and all blobs as they are stored, compares both, and leaves the source as it was: the same
accounts, keys, images and digests. Interrupted, it is started again and goes on. The destination is not served before
it is whole. Uploads that are under way are left out; clients begin them anew.

Exit status: 0 moved and the same, 1 not, 2 used wrongly.")]
    Migrate(migrate::Arguments),
    /// Manage images
    #[command(subcommand)]
    Image(ImageAction),
    /// Manage the keys that stored data is encrypted with
    #[command(subcommand)]
    KeyRing(KeyRingAction),
    /// Show every setting in effect and where it comes from
    Config {
        /// Settings to try out.
        #[command(flatten)]
        flags: SettingFlags,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Explain request signatures
    #[command(subcommand)]
    Sigv4(Sigv4Action),
    /// Try out policies
    #[command(subcommand)]
    Policy(PolicyAction),
    /// Say whether a principal may do something, which statement decides, and what is missing
    #[command(after_help = "\
Examples:
  wharf explain --principal arn:aws:iam::123456789012:user/erin --action ecr:PutImage --resource team/app
  wharf explain --principal arn:aws:sts::111122223333:assumed-role/ci/build --action ecr:BatchGetImage \\
    --resource arn:aws:ecr:us-east-1:123456789012:repository/team/app --context aws:SourceIp=192.0.2.7
  wharf explain --principal 123456789012 --action ecr:GetAuthorizationToken --json

The policies are those in force: identity policies, boundary, repository and registry policy. A condition key that comes
twice has several values. Works while the server runs. Exit status: 0 allowed, 1 refused or not to be explained.")]
    Explain(Explain),
    /// Commands that talk to a registry over the network
    #[command(flatten)]
    Client(ClientAction),
    /// Print the table of API operations as Markdown
    Operations,
    /// Print where the `spec` and `ecr` dialects differ as Markdown
    Dialect,
    /// Print the version
    Version,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `wharf account …`
#[derive(Debug, Subcommand)]
pub enum AccountAction {
    /// Create an account and its root access key
    #[command(
        after_help = "Prints {\"account_id\",\"access_key_id\",\"secret_access_key\"} with --json. Works while the \
                            server runs."
    )]
    Create {
        /// Twelve digits; chosen at random if not given
        #[arg(long, value_name = "12DIGITS")]
        id: Option<AccountId>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// List the accounts
    List(Output),
}

/// `wharf key …`
#[derive(Debug, Subcommand)]
pub enum KeyAction {
    /// Create a root access key of an account
    Create {
        /// Owner of the key [default: the default account]
        #[arg(long, value_name = "ID")]
        account: Option<AccountId>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Stop a key from being used, and every password issued to it
    Disable(KeyId),
    /// Let a disabled key be used again
    Enable(KeyId),
    /// Delete a key for good
    Delete(KeyId),
    /// List the keys of an account, without their secrets
    List {
        /// Owner of the keys [default: the default account]
        #[arg(long, value_name = "ID")]
        account: Option<AccountId>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

/// Names one key.
#[derive(Debug, Args)]
pub struct KeyId {
    /// The access key id, e.g. AKIAIOSFODNN7EXAMPLE
    pub access_key_id: String,
}

/// `wharf token …`
#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Print a registry password for the user `AWS`
    #[command(after_help = "\
Examples:
  wharf token issue --account 123456789012 | skopeo login -u AWS --password-stdin 127.0.0.1:5050
  wharf token issue --account 123456789012 --ttl 1s    # one that is about to expire, for tests")]
    Issue {
        /// The account whose root the password stands for
        #[arg(long, value_name = "ID")]
        account: AccountId,
        /// Region of the registry [default: the default region]
        #[arg(long)]
        region: Option<Region>,
        /// How long it is valid [default: the setting token_ttl]
        #[arg(long, value_parser = <Duration as Value>::parse)]
        ttl: Option<Duration>,
    },
}

/// `wharf key-ring …`
#[derive(Debug, Subcommand)]
pub enum KeyRingAction {
    /// Make new keys and wrap every data key anew; no stored object is rewritten
    Rotate(Output),
}

/// `wharf sigv4 …`
#[derive(Debug, Subcommand)]
pub enum Sigv4Action {
    /// Say for each request of a file whether its signature is accepted, and why not
    #[command(after_help = "\
CASES.jsonl has one request per line: {\"name\",\"now\",\"service\",\"region\",\"protocol\",\"request\":{\"method\",\"target\",
\"headers\":[[name,value],…],\"body_b64\"}}. KEYS.json maps access key ids to {\"secret\",\"status\",\"token\"?,\"expires\"?,
\"principal\"}. The verifier is the server's. Exit status 1 if a request is refused or a line is none.")]
    Verify {
        /// File of access keys
        #[arg(long, value_name = "KEYS.json")]
        keys: PathBuf,
        /// File of requests
        #[arg(value_name = "CASES.jsonl")]
        cases: PathBuf,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

/// `wharf policy …`
#[derive(Debug, Subcommand)]
pub enum PolicyAction {
    /// Decide the cases of a file and print those that differ from what they expect
    #[command(after_help = "\
CASES.jsonl has one case per line: {\"name\",\"request\":{\"principal\",\"action\",\"resource\",\"resourceAccount\",
\"context\"},\"identityPolicies\",\"resourcePolicy\",\"resourcePolicyType\"?,\"permissionBoundaries\",\"sessionPolicy\",
\"expected\"}. A principal is the ARN of a user, session or root, a service's name, or null for the anonymous; expected
is Allowed, ImplicitlyDenied, ExplicitlyDenied, or invalid for a document that is refused. The evaluator is the
server's; neither server nor data directory is needed. Exit status: 0 as expected, 1 some differ, 2 unreadable.")]
    Test {
        /// File of cases; - is standard input
        #[arg(value_name = "CASES.jsonl")]
        cases: PathBuf,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

/// `wharf lifecycle …`
#[derive(Debug, Subcommand)]
pub enum LifecycleAction {
    /// Carry lifecycle policies out now
    #[command(after_help = "\
The server does it by itself every lifecycle.interval. What goes, goes into the trash (see wharf undelete).")]
    Run {
        /// The one repository [default: every one that has a policy]
        #[arg(long)]
        repository: Option<RepositoryName>,
        /// Which registry.
        #[command(flatten)]
        registry: RegistryArgs,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Say for each image whether it stays, which rule says so, and what its going would free
    #[command(after_help = "\
Examples:
  wharf lifecycle explain --repository team/app                       # the repository's own policy
  wharf lifecycle explain --repository team/app --policy draft.json   # one that is not set yet

Nothing changes. `kept by` is the strongest rule that is about the image: it shields it from those behind it.")]
    Explain {
        /// Whose images
        #[arg(long)]
        repository: RepositoryName,
        /// File of a policy to try [default: the repository's own]
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// Which registry.
        #[command(flatten)]
        registry: RegistryArgs,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

/// `wharf image …`
#[derive(Debug, Subcommand)]
pub enum ImageAction {
    /// Delete an image, or a tag and with the last one the image
    #[command(after_help = "\
Examples:
  wharf image delete --repository team/app sha256:4c0d…
  wharf image delete --repository team/app --force v1        # also if it is reported to be in use

What goes, goes into the trash (see wharf undelete), and leaves an event that names who ran it.")]
    Delete {
        /// Where it is
        #[arg(long)]
        repository: RepositoryName,
        /// Also if somebody runs it
        #[arg(long)]
        force: bool,
        /// The image, by its digest or a tag
        image: Reference,
        /// Which registry.
        #[command(flatten)]
        registry: RegistryArgs,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

/// Names a registry.
#[derive(Debug, Args)]
pub struct RegistryArgs {
    /// Owner of the repository [default: the default account]
    #[arg(long, value_name = "ID")]
    pub account: Option<AccountId>,
    /// Region of the repository [default: the default region]
    #[arg(long)]
    pub region: Option<Region>,
}

/// Names a request.
#[derive(Debug, Args)]
pub struct Explain {
    /// ARN of a root user, user, role or role session; an account id; or anonymous
    #[arg(long, value_name = "ARN")]
    pub principal: String,
    /// The action, e.g. ecr:PutImage
    #[arg(long)]
    pub action: String,
    /// An ARN, or the name of a repository in the principal's account and the default region
    #[arg(long, value_name = "ARN|NAME")]
    pub resource: Option<String>,
    /// A condition key of the request
    #[arg(long, value_name = "KEY=VALUE", value_parser = context_key)]
    pub context: Vec<(String, String)>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

fn context_key(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, e.g. aws:SourceIp=192.0.2.7".to_owned()),
    }
}

/// Names what to restore.
#[derive(Debug, Args)]
pub struct Undelete {
    /// The repository
    pub repository: RepositoryName,
    /// The image, by its digest or by a tag it had; without it, all images of the repository that are in the trash
    pub image: Option<Reference>,
    /// Owner of the repository [default: the default account]
    #[arg(long, value_name = "ID")]
    pub account: Option<AccountId>,
    /// Region of the repository [default: the default region]
    #[arg(long)]
    pub region: Option<Region>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// A flag for each setting, made from the table.
#[derive(Clone, Debug, Default)]
pub struct SettingFlags(pub Vec<(&'static Setting, String)>);

impl SettingFlags {
    fn arguments(command: Command) -> Command {
        SETTINGS
            .iter()
            .filter(|setting| has_flag(setting))
            .fold(command, |command, setting| command.arg(argument(setting)))
    }
}

/// The data directory is every command's, and secrets have no flag.
fn has_flag(setting: &Setting) -> bool {
    setting.name != "data_dir" && !setting.is_secret()
}

fn argument(setting: &'static Setting) -> Arg {
    let rare = setting.name.contains('.') || matches!(setting.kind, Kind::Map);
    let default = if setting.default.is_empty() || setting.default.len() > 24 {
        String::new()
    } else {
        format!(" [default: {}]", setting.default)
    };
    let argument = Arg::new(setting.name)
        .long(setting.flag())
        .help(format!("{}{default}", setting.help))
        .help_heading("Settings")
        .hide_default_value(true)
        .hide_short_help(rare)
        .action(ArgAction::Set);
    match setting.kind {
        Kind::Bool => {
            argument.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL")
        }
        Kind::Choice(words) => argument.value_parser(PossibleValuesParser::new(words)).value_name("WHICH"),
        Kind::Text => argument.value_name("TEXT"),
        Kind::Number => argument.value_name("NUMBER"),
        Kind::Size => argument.value_name("SIZE"),
        Kind::Duration => argument.value_name("TIME"),
        Kind::Map => argument.value_name("NAME=VALUE,…"),
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let given = SETTINGS.iter().filter(|setting| has_flag(setting)).filter_map(|setting| {
            matches.get_one::<String>(setting.name).map(|value| (setting, value.clone()))
        });
        self.0.extend(given);
        Ok(())
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        Self::arguments(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::arguments(command)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn settings_are_flags_of_serve() {
        let cli = Cli::try_parse_from([
            "wharf",
            "serve",
            "--listen",
            "0.0.0.0:1",
            "--insecure-plain-http",
            "--limits-drain=5s",
            "--data-dir",
            "d",
        ])
        .unwrap();
        let Action::Serve(flags) = cli.action else { panic!("not serve") };
        let given: Vec<_> = flags.0.iter().map(|(setting, value)| (setting.name, value.as_str())).collect();
        assert_eq!(given, [("listen", "0.0.0.0:1"), ("insecure_plain_http", "true"), ("limits.drain", "5s")]);
        assert_eq!(cli.place.data_dir, Some("d".into()));
        assert!(Cli::try_parse_from(["wharf", "serve", "--root-key", "x"]).is_err());
    }
}
