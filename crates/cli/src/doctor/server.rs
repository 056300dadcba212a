//! The server.

use onefold_wire::{QueueList, Ready};

use super::{Line, Report};
use crate::client::{CallError, Client};
use crate::config::RemoteSettings;
use crate::failure::Failure;
use crate::table::some;

pub(super) async fn check(remote: &RemoteSettings, served: bool, report: &mut Report) -> Result<(), Failure> {
    let client = Client::server(remote)?;
    match client.get("/readyz").await {
        Ok(answer) => {
            let ready: Ready<'_> = answer.read()?;
            report.tell(Line::ok("server", format!("{} is {}", remote.url, ready.phase)))?;
            for note in &ready.notes {
                report.tell(Line::warn("server", note.to_string()))?;
            }
        }
        Err(CallError::Unready(phase)) => {
            let told = format!("{} is {phase}: it takes no new work now", remote.url);
            return report.tell(Line::fail("server", told));
        }
        Err(CallError::Unreachable { .. }) if !remote.named => {
            let told = match served {
                true => format!(
                    "a process serves the store, but nothing answers at {}: name it with --url or ONEFOLD_URL",
                    remote.url
                ),
                false => format!("nothing answers at {}: start one with `onefold serve`", remote.url),
            };
            return report.tell(Line::warn("server", told));
        }
        Err(error) => return report.tell(Line::fail("server", error.to_string())),
    }
    match client.get("/v1/queues").await {
        Ok(answer) => {
            let list: QueueList<'_> = answer.read()?;
            report.tell(Line::ok(
                "access",
                format!("the server shows its {}", some(list.queues.len() as u64, "queue")),
            ))
        }
        Err(error) => report.tell(Line::fail("access", error.to_string())),
    }
}
