use plimsoll_app::{groups, inventory::Entry};
use poem_openapi::{Object, OpenApi, payload::Json};

use super::{
    Tag,
    error::{ErrorOf, Reads},
};
use crate::auth::{Authorized, perm};

/// `GET /api/v1/containers/groups`.
pub struct Groups;

#[derive(Object)]
#[oai(rename = "ContainerGroupList")]
struct GroupList {
    data: Vec<GroupView>,
    total: u64,
}

#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "ContainerGroup")]
struct GroupView {
    /// `null` for containers without a group.
    #[oai(nullable)]
    name: Option<String>,
    containers: Vec<Member>,
    container_count: u64,
    updates_available: u64,
}

#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "ContainerGroupMember")]
struct Member {
    id: String,
    name: String,
    display_name: String,
    update_available: bool,
}

impl Member {
    fn of(entry: &Entry) -> Self {
        let facts = &entry.state.facts;
        Self {
            id: entry.id().to_owned(),
            name: facts.name.clone(),
            display_name: facts.display_name().to_owned(),
            update_available: entry.update_available,
        }
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl Groups {
    /// List containers by stack
    ///
    /// The label `dd.group`, else `wud.group`, else the Compose project. Groups are ordered by
    /// name; containers without a group come last.
    #[oai(
        path = "/containers/groups",
        method = "get",
        operation_id = "listContainerGroups",
        tag = "Tag::Containers"
    )]
    async fn list(
        &self,
        who: Authorized<perm::ContainersRead>,
    ) -> Result<Json<GroupList>, ErrorOf<Reads>> {
        let data: Vec<GroupView> = groups::groups(&who.snapshot().inventory)
            .into_iter()
            .map(|group| GroupView {
                container_count: group.containers.len() as u64,
                updates_available: group.updates_available() as u64,
                containers: group.containers.iter().map(|e| Member::of(e)).collect(),
                name: group.name,
            })
            .collect();
        let total = data.len() as u64;
        Ok(Json(GroupList { data, total }))
    }
}
