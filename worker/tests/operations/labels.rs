//! Changes of labels by workers that die in the middle.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use plimsoll_app::store::operation_inputs::OperationInput;
use plimsoll_domain::labels::{LabelChange, LabelReach, LabelRequest};
use plimsoll_domain::{ids::OperationId, operation::OperationKind};
use plimsoll_support::image::Image;
use plimsoll_support::oracle::completed;
use plimsoll_support::wait;
use plimsoll_worker::compose::{ComposeOptions, Reconciliation};
use plimsoll_worker::operations::{CrashPoint, Manner, Side};

use crate::compose::{Stack, options};

const TEXT: &str =
    "# shop\nservices:\n  web:\n    image: '{image}'\n    labels: [docksmith.ignore=true]\n";
const KEY: &str = "docksmith.allow-latest";

async fn ask(stack: &Stack, reach: LabelReach) -> OperationId {
    let set = BTreeMap::from([(KEY.to_owned(), "true".to_owned())]);
    let change = LabelChange::new(set, BTreeSet::new()).unwrap();
    let labels = LabelRequest { change, reach };
    let input = OperationInput {
        labels: Some(&labels),
        ..OperationInput::default()
    };
    let runs = stack.world.registry.reference("app", "1.0.0");
    let kind = OperationKind::LabelChange;
    let asked = stack
        .world
        .request_with(&stack.app, kind, &runs, None, input);
    asked.await.expect("the request is accepted")
}

async fn survives(point: &str, side: Side, reach: LabelReach) {
    // A file that does not agree with the container would be left alone.
    let options = ComposeOptions {
        reconciliation: Reconciliation::Block,
        ..options()
    };
    let stack = Stack::agreed(TEXT, Image::app("1.1.0"), options).await;
    let before = stack.text();
    let crash = CrashPoint::new(point, side, Manner::Panic);
    let first = stack.world.worker_that(Some(crash.clone()));
    let operation = ask(&stack, reach).await;
    let what = format!("the worker to die {side:?} {point}");
    wait::until_true(&what, wait::SOON, async || crash.is_spent()).await;
    drop(first);
    let _second = stack.world.worker();
    // The oracle expects the labels that were there before.
    let row = completed(&stack.world.rows, operation.as_uuid()).await;
    assert_eq!(row["phase"], "succeeded", "{what}: {row:#}");
    assert_eq!(stack.world.docker.containers().await.len(), 1, "{what}");
    let text = stack.text();
    assert_eq!(text.matches(KEY).count(), 1, "{what}: {text}");
    let lines = |text: &str| text.lines().filter(|l| !l.contains("labels")).count();
    assert!(lines(&text) <= lines(&before) + 2, "{what}: {text}");
    assert!(stack.files() <= 2, "nothing but the file and its backup");
    let now = stack.world.survivor(&stack.app).await;
    let found = stack.world.docker.inspect(&now.id).await.unwrap();
    let labels = found.config.unwrap().labels.unwrap();
    let is_made_anew = reach == LabelReach::Container;
    assert_eq!(labels.contains_key(KEY), is_made_anew, "{what}");
    assert_eq!(now.id != stack.app.id, is_made_anew, "{what}");
    assert_eq!(found.state.unwrap().running, Some(true), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_are_changed_once_whoever_dies_on_the_way() {
    let points = [
        ("prepare", Side::Before),
        ("rename-old", Side::After),
        ("renamed", Side::After),
        ("create-new", Side::After),
        ("stop-old", Side::After),
        ("start-new", Side::After),
        ("health-gate-passed", Side::After),
        ("write-file", Side::Before),
        ("write-file", Side::After),
        ("remove-old", Side::After),
    ];
    let container = points.map(|(point, side)| (point, side, LabelReach::Container));
    let file = [Side::Before, Side::After].map(|side| ("write-file", side, LabelReach::File));
    futures::stream::iter(container.into_iter().chain(file))
        .for_each_concurrent(6, |(point, side, reach)| survives(point, side, reach))
        .await;
}
