//! Shows what a container uses and said last, with a token of its own that is gone afterwards:
//!
//! ```sh
//! PLIMSOLL_URL=http://127.0.0.1:3000 PLIMSOLL_TOKEN=… cargo run --example look NAME
//! ```

use std::env;

use anyhow::{Context, bail};
use plimsoll_client::{
    apis::{
        containers_api::{
            GetContainerLogsParams, GetContainerLogsSuccess, GetContainerStatsParams,
            GetContainerStatsSuccess, ListContainersParams, ListContainersSuccess,
            get_container_logs, get_container_stats, list_containers,
        },
        tokens_api::{
            CreateTokenParams, CreateTokenSuccess, RevokeTokenParams, RevokeTokenSuccess,
            create_token, revoke_token,
        },
    },
    connect,
    models::{CreateTokenRequest, Permission},
    must,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let name = env::args().nth(1).context("name a container")?;
    let url = env::var("PLIMSOLL_URL")?;
    let plimsoll = connect(&url, &env::var("PLIMSOLL_TOKEN")?)?;

    let wanted = CreateTokenParams {
        create_token_request: CreateTokenRequest::new(
            "look".to_owned(),
            vec![Permission::ContainersRead],
        ),
    };
    let CreateTokenSuccess::Status201(token) = must(create_token(&plimsoll, wanted).await)? else {
        bail!("this is a newer Plimsoll");
    };
    let reader = connect(&url, &token.token)?;

    let all = ListContainersParams::default();
    let ListContainersSuccess::Status200(list) = must(list_containers(&reader, all).await)? else {
        bail!("this is a newer Plimsoll");
    };
    let container = list.data.into_iter().find(|one| one.name == name);
    let id = container
        .with_context(|| format!("there is no container {name}"))?
        .id;

    let which = GetContainerStatsParams { id: id.clone() };
    let GetContainerStatsSuccess::Status200(stats) =
        must(get_container_stats(&reader, which).await)?
    else {
        bail!("this is a newer Plimsoll");
    };
    if let Some(usage) = stats.data {
        println!(
            "{} of {} bytes",
            usage.memory_usage_bytes, usage.memory_limit_bytes
        );
    }
    let which = GetContainerLogsParams {
        id,
        tail: Some(1),
        timestamps: Some(false),
        ..Default::default()
    };
    let GetContainerLogsSuccess::Status200(logs) = must(get_container_logs(&reader, which).await)?
    else {
        bail!("this is a newer Plimsoll");
    };
    println!("{}", logs.trim());

    let which = RevokeTokenParams { id: token.id };
    match must(revoke_token(&plimsoll, which).await)? {
        RevokeTokenSuccess::Status204() => Ok(()),
        RevokeTokenSuccess::UnknownValue(_) => bail!("this is a newer Plimsoll"),
    }
}
