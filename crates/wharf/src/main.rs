//! The program: command line, configuration, start-up and shut-down.

mod admin;
mod app;
mod cli;
mod client;
mod command;
mod control;
mod explain;
mod import;
mod in_use;
mod lifecycle;
mod logging;
mod migrate;
mod notify;
mod ops;
mod policy;
mod serve;
mod settings;
mod sigv4;
mod tls;
mod welcome;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use serde_json::Value;

use admin::{AdminRequest, Text};
use cli::{
    AccountAction, Action, Cli, ImageAction, KeyAction, KeyRingAction, Output, Place, PolicyAction,
    Sigv4Action, TokenAction,
};
use client::Environment;
use client::arguments::{ClientAction, DockerCredential};
use command::Bar;
use settings::{Layers, Origin, Setting, Settings, SettingsError};

/// Exit status of a command that was used wrongly, settings included.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    if let Some(outcome) = run_as_helper() {
        return outcome.unwrap_or_else(|error| failure(&error));
    }
    let cli = Cli::parse();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            // A reader that left (`wharf config | head`) is no failure of ours.
            if error
                .downcast_ref::<std::io::Error>()
                .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
            {
                return ExitCode::SUCCESS;
            }
            failure(&error)
        }
    }
}

fn failure(error: &anyhow::Error) -> ExitCode {
    let usage = error.downcast_ref::<SettingsError>().is_some();
    let _ = writeln!(std::io::stderr(), "wharf: {error:#}");
    if usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
}

/// The program under the name that container clients call a credential helper by: `docker-credential-wharf get`.
fn run_as_helper() -> Option<anyhow::Result<ExitCode>> {
    let mut arguments = std::env::args_os();
    let name = arguments.next()?;
    if Path::new(&name).file_name()? != client::HELPER_NAME {
        return None;
    }
    let action = arguments.next().unwrap_or_default().to_string_lossy().into_owned();
    Some(docker_credential(&action))
}

fn docker_credential(action: &str) -> anyhow::Result<ExitCode> {
    install_cryptography();
    let (input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let environment = Environment::of_process();
    let answering = client::credential_helper(action, &environment, input, &mut output);
    Ok(client_runtime()?.block_on(answering))
}

fn run_client(action: ClientAction, place: &Place) -> anyhow::Result<ExitCode> {
    let environment = Environment::of_process();
    match action {
        ClientAction::Login(login) => client_runtime()?.block_on(client::login(login, &environment))?,
        ClientAction::DockerCredential(DockerCredential { action }) => return docker_credential(&action),
        ClientAction::KubeletCredentialProvider(arguments) => {
            let (input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
            let answering = client::kubelet_credential_provider(arguments, &environment, input, &mut output);
            client_runtime()?.block_on(answering)?;
        }
        ClientAction::AwsProfile(arguments) => {
            let settings = Settings::from_layers(&read_settings(place, &[])?)?;
            client::aws_profile(arguments, &environment, &settings)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    install_cryptography();
    let place = cli.place;
    let (request, json) = match cli.action {
        Action::Serve(flags) => {
            let layers = read_settings(&place, &flags.0)?;
            let settings = Settings::from_layers(&layers)?;
            logging::install(settings.log_format, &settings.log_level)?;
            return runtime()?.block_on(serve::serve(settings));
        }
        Action::Config { flags, output } => {
            let layers = read_settings(&place, &flags.0)?;
            Settings::from_layers(&layers)?;
            let text = if output.json { layers.to_json().to_string() } else { layers.to_toml() };
            return say(&text);
        }
        Action::Sigv4(Sigv4Action::Verify { keys, cases, output }) => {
            return sigv4::verify(&keys, &cases, output.json);
        }
        Action::Policy(PolicyAction::Test { cases, output }) => return policy::test(&cases, output.json),
        Action::Client(action) => return run_client(action, &place),
        Action::InUse(action) => {
            let layers = read_settings(&place, &[])?;
            let settings = Settings::from_layers(&layers)?;
            logging::install(settings.log_format, "warn")?;
            return runtime()?.block_on(in_use::run(action, &settings));
        }
        Action::Import(arguments) => {
            let layers = read_settings(&place, &[])?;
            let settings = Settings::from_layers(&layers)?;
            logging::install(settings.log_format, "warn")?;
            return runtime()?.block_on(import::run(*arguments, &settings));
        }
        Action::Migrate(arguments) => {
            let settings = Settings::from_layers(&read_settings(&place, &[])?)?;
            logging::install(settings.log_format, "warn")?;
            return runtime()?.block_on(migrate::run(arguments));
        }
        Action::Operations => return say(&wharf_http::aws::operations_markdown()),
        Action::Dialect => return say(&app::dialect_markdown()),
        Action::Version => return say(concat!("wharf ", env!("CARGO_PKG_VERSION"))),
        action => request(action)?,
    };
    let layers = read_settings(&place, &[])?;
    let settings = Settings::from_layers(&layers)?;
    // A command's own output is the result; the log speaks up only if asked to, or if something is wrong.
    let level = match layers.get("log_level") {
        (_, Origin::Default) => "warn",
        (level, _) => level,
    };
    logging::install(settings.log_format, level)?;
    let secret_only = matches!(request, AdminRequest::TokenIssue { .. });
    let explained = matches!(request, AdminRequest::Explain { .. });
    let result = runtime()?.block_on(command::run(&settings, request, Bar::new(!json)))?;
    if explained {
        return explain::print(&result, json);
    }
    if secret_only {
        command::print_member(&result, "token")?;
    } else if let Some(table) = lifecycle::table(&result).filter(|_| !json) {
        return say(&table);
    } else {
        command::print(&result, json)?;
    }
    Ok(exit_code(&result))
}

/// A scrub that found damage did its work, yet nobody should take it for good news.
fn exit_code(result: &Value) -> ExitCode {
    let damaged = result.get("clean") == Some(&Value::Bool(false));
    if damaged { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The command behind an action, and whether its result is printed as JSON.
fn request(action: Action) -> anyhow::Result<(AdminRequest, bool)> {
    Ok(match action {
        Action::Account(AccountAction::Create { id, output }) => {
            (AdminRequest::AccountCreate { id: id.map(Text) }, output.json)
        }
        Action::Account(AccountAction::List(Output { json })) => (AdminRequest::AccountList, json),
        Action::Key(KeyAction::Create { account, output }) => {
            (AdminRequest::KeyCreate { account: account.map(Text) }, output.json)
        }
        Action::Key(KeyAction::List { account, output }) => {
            (AdminRequest::KeyList { account: account.map(Text) }, output.json)
        }
        Action::Key(KeyAction::Disable(key)) => {
            (AdminRequest::KeyStatus { access_key_id: key.access_key_id, active: false }, false)
        }
        Action::Key(KeyAction::Enable(key)) => {
            (AdminRequest::KeyStatus { access_key_id: key.access_key_id, active: true }, false)
        }
        Action::Key(KeyAction::Delete(key)) => {
            (AdminRequest::KeyDelete { access_key_id: key.access_key_id }, false)
        }
        Action::Token(TokenAction::Issue { account, region, ttl }) => {
            let ttl_ms = ttl.map(|ttl| u64::try_from(ttl.as_millis())).transpose()?;
            (AdminRequest::TokenIssue { account: Text(account), region: region.map(Text), ttl_ms }, false)
        }
        Action::Explain(explain) => {
            let json = explain.output.json;
            (explain::request(explain), json)
        }
        Action::Gc(Output { json }) => (AdminRequest::Gc, json),
        Action::Scrub(Output { json }) => (AdminRequest::Scrub, json),
        Action::Backup { to, output } => {
            // Whoever does it works elsewhere.
            let to = std::path::absolute(to)?;
            (AdminRequest::Backup { to }, output.json)
        }
        Action::Undelete(undelete) => {
            let json = undelete.output.json;
            let request = AdminRequest::Undelete {
                account: undelete.account.map(Text),
                region: undelete.region.map(Text),
                repository: Text(undelete.repository),
                image: undelete.image.map(Text),
            };
            (request, json)
        }
        Action::Lifecycle(action) => lifecycle::request(action)?,
        Action::Image(ImageAction::Delete { repository, force, image, registry, output }) => {
            let request = AdminRequest::ImageDelete {
                account: registry.account.map(Text),
                region: registry.region.map(Text),
                repository: Text(repository),
                image: Text(image),
                force,
            };
            (request, output.json)
        }
        Action::KeyRing(KeyRingAction::Rotate(Output { json })) => (AdminRequest::KeyRingRotate, json),
        Action::Serve(_)
        | Action::Config { .. }
        | Action::Sigv4(_)
        | Action::Policy(_)
        | Action::Client(_)
        | Action::InUse(_)
        | Action::Import(_)
        | Action::Migrate(_)
        | Action::Operations
        | Action::Dialect
        | Action::Version => anyhow::bail!("not a command for the data directory's owner"),
    })
}

fn read_settings(place: &Place, flags: &[(&'static Setting, String)]) -> Result<Layers, SettingsError> {
    let mut flags = flags.to_vec();
    if let (Some(directory), Some(setting)) = (&place.data_dir, Setting::find("data_dir")) {
        flags.push((setting, directory.to_string_lossy().into_owned()));
    }
    settings::read(place.config.as_deref(), &flags)
}

/// One provider in the whole process, named rather than guessed from features.
fn install_cryptography() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// What one request at a time needs.
fn client_runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

fn say(text: &str) -> anyhow::Result<ExitCode> {
    writeln!(std::io::stdout().lock(), "{}", text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
