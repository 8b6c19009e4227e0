//! `formidlingd key`: a key pair for Maskinporten.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::check::print_problems;
use super::{ConfigOptions, Exit, complain};
use crate::config::{self, KeyNaming};
use crate::files::{Dir, Error, Mode};
use crate::identity::{SigningKey, generate_key};
use crate::transfer::ClientName;

/// Make a key pair for Maskinporten, or print a public key
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    New(New),
    Public(Public),
}

/// Make a private key, and print the public one to register with Maskinporten
#[derive(Debug, Args)]
struct New {
    /// Where to put the private key; a file that is there is never overwritten
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The id to register it under: letters, digits, '.', '_' and '-'
    #[arg(long, value_name = "ID")]
    key_id: String,
}

/// Print the public key of a configured client as a JWK
#[derive(Debug, Args)]
struct Public {
    #[command(flatten)]
    config: ConfigOptions,
    /// The client whose key to print
    #[arg(long, value_name = "NAME", default_value = "default")]
    client: ClientName,
}

impl Options {
    pub(super) fn run(self, out: &mut impl Write) -> Exit {
        match self.command {
            Command::New(new) => new.run(out),
            Command::Public(public) => public.run(out),
        }
    }
}

impl New {
    fn run(self, out: &mut impl Write) -> Exit {
        let made = generate_key().and_then(|pem| SigningKey::parse(pem.expose()).map(|key| (pem, key)));
        let (pem, key) = match made {
            Ok(made) => made,
            Err(error) => return complain(&error, &error.remedy()),
        };
        if let Err(error) = self.save(pem.expose()) {
            let remedy = if error.is_taken() {
                "name another file: a key is never overwritten"
            } else {
                error.remedy()
            };
            return complain(&error, remedy);
        }
        // If nobody reads, the exit code still tells.
        let written = writeln!(out, "[{}]", key.public_jwk(&self.key_id));
        written.map_or(Exit::Failed, |()| Exit::Done)
    }

    fn save(&self, pem: &str) -> Result<(), Error> {
        let path = std::path::absolute(&self.out).unwrap_or_else(|_| self.out.clone());
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            let reason =
                std::io::Error::new(std::io::ErrorKind::InvalidInput, "it is not the name of a file");
            return Err(Error::new("write", &path, reason));
        };
        Dir::open(folder)?.create(name, pem.as_bytes(), Mode::PRIVATE_FILE)
    }
}

impl Public {
    fn run(self, out: &mut impl Write) -> Exit {
        let config = match config::load(&self.config.config) {
            Ok(loaded) => loaded.config,
            Err(problems) => return print_problems(out, &problems),
        };
        let Some(client) = config.clients.get(&self.client) else {
            let error =
                std::io::Error::other(format!("there is no [client.{}] in the configuration", self.client));
            return complain(&error, "name one that there is, with --client");
        };
        let key_id = match &client.credential.naming {
            KeyNaming::KeyId(key_id) => key_id.as_str(),
            KeyNaming::CertificateChain(_) => "",
        };
        match SigningKey::parse(client.credential.private_key.expose()) {
            Ok(key) => writeln!(out, "[{}]", key.public_jwk(key_id)).map_or(Exit::Failed, |()| Exit::Done),
            Err(error) => complain(&error, &error.remedy()),
        }
    }
}
