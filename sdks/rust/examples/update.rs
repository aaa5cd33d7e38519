//! Updates a container and follows it to the end:
//!
//! ```sh
//! PLIMSOLL_URL=http://127.0.0.1:3000 PLIMSOLL_TOKEN=… cargo run --example update NAME
//! ```

use std::{env, pin::pin};

use anyhow::{Context, bail};
use futures::StreamExt;
use plimsoll_client::{
    apis::{
        authentication_api::{GetCurrentUserSuccess, get_current_user},
        containers_api::{
            GetUpdateOperationParams, GetUpdateOperationSuccess, ListContainersParams,
            ListContainersSuccess, UpdateContainerParams, UpdateContainerSuccess,
            get_update_operation, list_containers, update_container,
        },
    },
    connect, follow,
    models::OperationStatus,
    must,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let name = env::args().nth(1).context("name a container")?;
    let plimsoll = connect(&env::var("PLIMSOLL_URL")?, &env::var("PLIMSOLL_TOKEN")?)?;

    let GetCurrentUserSuccess::Status200(user) = must(get_current_user(&plimsoll).await)? else {
        bail!("this is a newer Plimsoll");
    };
    println!("signed in as {}", user.username);

    let all = ListContainersParams::default();
    let ListContainersSuccess::Status200(list) = must(list_containers(&plimsoll, all).await)? else {
        bail!("this is a newer Plimsoll");
    };
    let container = list.data.into_iter().find(|one| one.name == name);
    let container = container.with_context(|| format!("there is no container {name}"))?;
    let kind = container.update_kind;
    let version = |value: Option<String>| value.unwrap_or_default();
    let (from, to) = (version(kind.local_value), version(kind.remote_value));
    println!("{name}: {from} -> {to}");

    // Listen first, so that nothing is missed.
    let mut events = pin!(follow(&plimsoll));
    events.next().await.transpose()?;

    let request = UpdateContainerParams {
        id: container.id,
        prefer: Some("respond-async".to_owned()),
        ..Default::default()
    };
    let UpdateContainerSuccess::Status202(accepted) =
        must(update_container(&plimsoll, request).await)?
    else {
        bail!("the update was not accepted");
    };

    while let Some(event) = events.next().await.transpose()? {
        let ours = event.data["operationId"] == accepted.operation_id;
        if !(event.kind == "dd:update-operation-changed" && ours)
            && event.kind != "dd:resync-required"
        {
            continue;
        }
        let id = accepted.operation_id.clone();
        let which = GetUpdateOperationParams { id };
        let GetUpdateOperationSuccess::Status200(operation) =
            must(get_update_operation(&plimsoll, which).await)?
        else {
            bail!("this is a newer Plimsoll");
        };
        println!("{}: {}", operation.status, operation.phase);
        match operation.status {
            OperationStatus::InProgress => {}
            OperationStatus::Succeeded => return Ok(()),
            ended => bail!(operation.last_error.unwrap_or(ended.to_string())),
        }
    }
    bail!("the events ended")
}
