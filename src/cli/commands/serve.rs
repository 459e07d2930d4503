//! `loragrid serve`

use serde_json::json;

use crate::cli::ExitCode;
use crate::cli::arguments::{ListenArguments, ServeArguments};
use crate::cli::environment::block_on;
use crate::cli::failure::Failure;
use crate::cli::output::{is_json, write_json, write_line, write_note};
use crate::cli::work::stops;
use crate::store::Store;
use crate::web::pages::{Pages, router};
use crate::web::{Access, Listener, Secret, serve};
use crate::workspace::Workspace;

pub(in crate::cli) fn run(arguments: &ServeArguments, workspace: Workspace) -> Result<ExitCode, Failure> {
    let access = access_of(&arguments.listen)?;
    block_on(async {
        // A database that is not there, or of another release, is said at once.
        Store::open_to_read(&workspace.db).await?.close().await;
        let (mut stops, _) = stops();
        let listener = Listener::bind(&arguments.listen.host, arguments.port).await?;
        let url = format!("http://{}/", listener.address);
        if is_json() {
            write_json(&json!({ "url": url }))?;
        } else {
            write_line(&format!("serving {} at {url}", workspace.db))?;
        }
        let pages = Pages::new(workspace, access);
        let closing = pages.clone();
        let end = async move {
            stops.recv().await;
            // Streams of events never end by themselves.
            closing.close();
        };
        serve(listener, router(pages), end).await?;
        write_note("stopped");
        Ok(ExitCode::Success)
    })
}

/// Who may ask. Errors: no token for a host that others can reach, a file that cannot be read.
pub(super) fn access_of(listen: &ListenArguments) -> Result<Access, Failure> {
    let text = match &listen.token_file {
        Some(file) => Some(std::fs::read_to_string(file).map_err(|error| {
            Failure::new(ExitCode::Usage, format!("--token-file {}: {error}", file.display()), None)
        })?),
        None => std::env::var("LORAGRID_TOKEN").ok(),
    };
    let token = text.as_deref().map(Secret::new).transpose()?;
    Ok(Access::new(&listen.host, token)?)
}
