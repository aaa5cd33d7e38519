//! An operation on Plimsoll's own container has its engine to itself.

use plimsoll_domain::{ids::OperationId, operation::OperationKind};
use plimsoll_support::{
    image::Image,
    oracle::{End, row},
    wait,
};

use super::{Own, SOON, good};
use crate::world::Deployed;

const HELD: &str = "OLD.phase = 'renamed'";

impl Own {
    async fn deploy(&self, stem: &str) -> Deployed {
        let docker = &self.world.docker;
        let image = self.world.push("other-1.0.0", Image::app("1.0.0")).await;
        docker.pull(&image).await;
        let name = docker.name(stem);
        let id = docker.run(&name, &image).await;
        Deployed { name, id }
    }

    async fn update(&self, other: &Deployed) -> OperationId {
        let target = self.world.push("other-1.1.0", Image::app("1.1.0")).await;
        self.world.request_update(other, &target).await
    }

    /// Until the operation has been looked at, and put back because of the other one.
    async fn waits_for(&self, operation: OperationId, other: OperationId) {
        let sql = "SELECT error FROM jobs WHERE operation_id = $1";
        let expected = format!("waiting for the operation {other}");
        wait::until_true(&expected, SOON, async || {
            let row = self
                .world
                .rows
                .query_one(sql, &[&operation.as_uuid()])
                .await;
            let why: Option<String> = row.expect("the job is kept").get(0);
            why.is_some_and(|why| why.contains(&expected))
        })
        .await;
        let row = row(&self.world.rows, operation.as_uuid()).await;
        assert_eq!(row["phase"], "prepare");
    }

    /// Whether the second one touched something only after the first was over.
    async fn in_turn(&self, first: OperationId, second: OperationId) -> bool {
        let sql = "SELECT min(j.at) > o.completed_at FROM operation_journal j, update_operations o
                    WHERE j.operation_id = $2 AND j.note ->> 'step' IN ('rename-old', 'stop')
                      AND o.id = $1 GROUP BY o.completed_at";
        let ids = [&first.as_uuid() as _, &second.as_uuid() as _];
        let row = self.world.rows.query_one(sql, &ids).await;
        row.expect("both are over").get(0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_else_begins_while_plimsoll_replaces_itself() {
    let own = Own::start().await;
    let (updated, stopped) = (own.deploy("one").await, own.deploy("two").await);
    own.hold(&own.container, HELD).await;
    let operation = own.request(good()).await;
    own.is_held().await;
    let update = own.update(&updated).await;
    let stop = own
        .world
        .request(&stopped, OperationKind::Stop, "", None)
        .await;
    let stop = stop.expect("the request is accepted");
    own.waits_for(update, operation).await;
    own.waits_for(stop, operation).await;
    own.let_go().await;
    own.ends(operation, End::Succeeded).await;
    assert_eq!(own.world.judged(update).await.0, End::Succeeded);
    own.world.reaches(stop, "phase", "succeeded").await;
    assert!(own.in_turn(operation, update).await);
    assert!(own.in_turn(operation, stop).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plimsoll_waits_for_what_is_under_way_and_lets_nothing_new_begin() {
    let own = Own::start().await;
    let (under_way, late) = (own.deploy("one").await, own.deploy("two").await);
    own.hold(&under_way, HELD).await;
    let first = own.update(&under_way).await;
    own.is_held().await;
    let operation = own.request(good()).await;
    own.waits_for(operation, first).await;
    let last = own.update(&late).await;
    own.waits_for(last, operation).await;
    own.let_go().await;
    assert_eq!(own.world.judged(first).await.0, End::Succeeded);
    own.ends(operation, End::Succeeded).await;
    assert_eq!(own.world.judged(last).await.0, End::Succeeded);
    assert!(own.in_turn(first, operation).await);
    assert!(own.in_turn(operation, last).await);
}
