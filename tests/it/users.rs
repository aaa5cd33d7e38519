//! Managing users over HTTP, on two replicas (reliability.md S-5, S-9, S-17).

use plimsoll_domain::access::Role;
use plimsoll_support::{postgres::Database, redis::Redis};
use reqwest::Method;
use serde_json::{Value, json};

use crate::replica::{Answer, Replica, answer, cookie_of, scopes_of};

const SECRET: &str = "a password of some length";

struct Scene {
    database: Database,
    _redis: Redis,
    one: Replica,
    other: Replica,
    owner: String,
    admin: String,
}

impl Scene {
    /// With one configured user per role.
    async fn new() -> Self {
        let (database, redis) = (Database::migrated().await, Redis::start().await);
        let one = Replica::start(&database, &redis).await;
        let other = Replica::start(&database, &redis).await;
        let every = scopes_of(Role::Owner);
        let owner = one.token(&database, Role::Owner, &every).await;
        let admin = one.token(&database, Role::Admin, &every).await;
        Self {
            database,
            _redis: redis,
            one,
            other,
            owner,
            admin,
        }
    }

    async fn create(&self, token: &str, username: &str, role: &str) -> Answer {
        let body = json!({"username": username, "password": SECRET, "role": role});
        self.one.post("/api/v1/users", token, body).await
    }

    /// Its id.
    async fn created(&self, username: &str, role: &str) -> String {
        let answer = self.create(&self.owner, username, role).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    async fn change(&self, token: &str, id: &str, change: Value) -> Answer {
        let path = format!("/api/v1/users/{id}");
        let request = self.one.request(Method::PATCH, &path);
        answer(request.bearer_auth(token).json(&change)).await
    }

    async fn remove(&self, token: &str, id: &str) -> Answer {
        let path = format!("/api/v1/users/{id}");
        answer(self.one.request(Method::DELETE, &path).bearer_auth(token)).await
    }

    async fn login(&self, username: &str, password: &str) -> Option<String> {
        let body = json!({"username": username, "password": password});
        let request = self.other.request(Method::POST, "/auth/login").json(&body);
        cookie_of(&request.send().await.unwrap())
    }

    async fn get(&self, path: &str, cookie: &str) -> u16 {
        let request = self.other.request(Method::GET, path);
        answer(request.header("cookie", cookie)).await.status
    }

    async fn id_of(&self, username: &str) -> String {
        let list = self.one.get("/api/v1/users", &self.owner).await.json();
        let users = list["data"].as_array().unwrap();
        let user = users.iter().find(|user| user["username"] == username);
        user.unwrap()["id"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_user_who_was_made_signs_in_and_is_listed_without_secrets() {
    let scene = Scene::new().await;
    let id = scene.created("ann", "operator").await;
    let cookie = scene.login("ann", SECRET).await.unwrap();
    assert_eq!(scene.get("/api/v1/audit", &cookie).await, 200);
    assert_eq!(scene.get("/api/v1/users", &cookie).await, 403);

    let list = scene.one.get("/api/v1/users", &scene.admin).await;
    assert!(!list.text.contains("argon2"), "{}", list.text);
    let list = list.json();
    assert_eq!(list["total"], 5);
    let ann = &list["data"][1];
    assert_eq!(ann["id"], id.as_str());
    assert_eq!(ann["username"], "ann");
    assert_eq!(
        (&ann["role"], &ann["source"]),
        (&json!("operator"), &json!("local"))
    );
    assert_eq!(list["data"][0]["source"], "configuration");
    // As the contract writes instants.
    let created = ann["createdAt"].as_str().unwrap();
    assert!(created.len() == 24 && created.ends_with('Z'), "{created}");

    let audit = scene
        .one
        .get("/api/v1/audit?action=user-created", &scene.owner)
        .await;
    assert_eq!(audit.json()["data"][0]["details"], "ann as operator");
    assert!(!audit.text.contains(SECRET));
}

#[tokio::test]
async fn nonsense_makes_no_user() {
    let scene = Scene::new().await;
    for bad in [
        json!({"username": "", "password": SECRET, "role": "viewer"}),
        json!({"username": "a:b", "password": SECRET, "role": "viewer"}),
        json!({"username": "a", "password": "short", "role": "viewer"}),
        json!({"username": "a", "password": SECRET, "role": "king"}),
        json!({"username": "a", "password": SECRET}),
    ] {
        let refused = scene
            .one
            .post("/api/v1/users", &scene.owner, bad.clone())
            .await;
        assert_eq!(refused.status, 400, "{bad}");
        assert!(!refused.text.contains(SECRET));
    }
    let taken = scene.create(&scene.owner, "viewer", "viewer").await;
    assert_eq!(
        (taken.status, taken.error().as_str()),
        (409, "There is a user with this name")
    );
    let id = scene.created("ann", "viewer").await;
    for bad in [json!({}), json!({"role": "king"}), json!({"password": "x"})] {
        assert_eq!(
            scene.change(&scene.owner, &id, bad.clone()).await.status,
            400,
            "{bad}"
        );
    }
    for unknown in ["unknown", "00000000-0000-7000-8000-000000000000"] {
        assert_eq!(scene.remove(&scene.owner, unknown).await.status, 404);
    }
}

#[tokio::test]
async fn admins_manage_those_below_them_and_owners_everybody() {
    let scene = Scene::new().await;
    for (role, admins) in [
        ("viewer", 201),
        ("operator", 201),
        ("admin", 403),
        ("owner", 403),
    ] {
        let by_admin = scene.create(&scene.admin, &format!("{role}-a"), role).await;
        assert_eq!(by_admin.status, admins, "{role}");
        scene.created(&format!("{role}-o"), role).await;
    }
    let (below, equal) = (scene.id_of("viewer-o").await, scene.id_of("admin-o").await);
    let above = scene.id_of("owner-o").await;
    let refused = scene
        .change(&scene.admin, &below, json!({"role": "admin"}))
        .await;
    assert_eq!(
        (refused.status, refused.error().as_str()),
        (403, "Only owners manage users with the role admin")
    );
    for id in [&equal, &above] {
        let change = json!({"disabled": true});
        assert_eq!(scene.change(&scene.admin, id, change).await.status, 403);
        assert_eq!(scene.remove(&scene.admin, id).await.status, 403);
    }
    let changed = scene
        .change(&scene.admin, &below, json!({"role": "operator"}))
        .await;
    assert_eq!(
        (changed.status, &changed.json()["role"]),
        (200, &json!("operator"))
    );
    assert_eq!(scene.remove(&scene.admin, &below).await.status, 204);
    assert_eq!(scene.remove(&scene.owner, &above).await.status, 204);
}

#[tokio::test]
async fn what_a_user_loses_their_sessions_and_tokens_lose_everywhere_at_once() {
    let scene = Scene::new().await;
    let id = scene.created("ann", "operator").await;
    let cookie = scene.login("ann", SECRET).await.unwrap();
    let body = json!({"name": "ci", "scopes": ["audit:read", "system:read"]});
    let token = scene
        .other
        .request(Method::POST, "/api/v1/tokens")
        .header("cookie", &cookie)
        .header("origin", scene.other.origin())
        .json(&body);
    let token = answer(token).await.json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let uses = async |path: &str| scene.other.get(path, &token).await.status;
    assert_eq!(uses("/api/v1/audit").await, 200);

    assert_eq!(
        scene
            .change(&scene.owner, &id, json!({"role": "viewer"}))
            .await
            .status,
        200
    );
    assert_eq!(uses("/api/v1/audit").await, 403);
    assert_eq!(uses("/api/v1/server").await, 200);
    assert_eq!(scene.get("/auth/user", &cookie).await, 401);

    let cookie = scene.login("ann", SECRET).await.unwrap();
    let new = json!({"password": "another password"});
    assert_eq!(scene.change(&scene.owner, &id, new).await.status, 200);
    assert_eq!(scene.get("/auth/user", &cookie).await, 401);
    assert!(scene.login("ann", SECRET).await.is_none());
    let cookie = scene.login("ann", "another password").await.unwrap();

    assert_eq!(
        scene
            .change(&scene.owner, &id, json!({"disabled": true}))
            .await
            .status,
        200
    );
    assert_eq!(scene.get("/auth/user", &cookie).await, 401);
    assert_eq!(uses("/api/v1/server").await, 401);
    assert!(scene.login("ann", "another password").await.is_none());
    assert_eq!(
        scene
            .change(&scene.owner, &id, json!({"disabled": false}))
            .await
            .status,
        200
    );
    assert_eq!(uses("/api/v1/server").await, 200);
    assert_eq!(scene.remove(&scene.owner, &id).await.status, 204);
    assert_eq!(uses("/api/v1/server").await, 401);
}

#[tokio::test]
async fn users_of_the_configuration_are_changed_there_and_the_last_owner_stays() {
    let scene = Scene::new().await;
    let viewer = scene.id_of("viewer").await;
    let error = "This user comes from the configuration (DD_AUTH_BASIC_…); change it there";
    for refused in [
        scene
            .change(&scene.owner, &viewer, json!({"disabled": true}))
            .await,
        scene.remove(&scene.owner, &viewer).await,
    ] {
        assert_eq!((refused.status, refused.error().as_str()), (409, error));
    }

    // The only owner is one who was made here.
    let ann = scene.created("ann", "owner").await;
    let client = scene.database.client().await;
    let disable = "UPDATE users SET disabled = true WHERE username = 'owner'";
    let cookie = scene.login("ann", SECRET).await.unwrap();
    client.execute(disable, &[]).await.unwrap();
    let owner = |method: Method, body: Value| {
        let request = scene.one.request(method, &format!("/api/v1/users/{ann}"));
        let request = request.header("cookie", &cookie);
        answer(request.header("origin", scene.one.origin()).json(&body))
    };
    for refused in [
        owner(Method::PATCH, json!({"role": "admin"})).await,
        owner(Method::PATCH, json!({"disabled": true})).await,
        owner(Method::DELETE, json!({})).await,
    ] {
        assert_eq!(
            (refused.status, refused.error().as_str()),
            (
                409,
                "This is the last owner who can sign in; make another user an owner first"
            )
        );
    }
    assert_eq!(scene.get("/api/v1/users", &cookie).await, 200);
    let renamed = owner(Method::PATCH, json!({"username": "anna"})).await;
    assert_eq!(renamed.json()["username"], "anna");
}

#[tokio::test]
async fn of_two_owners_who_demote_each_other_one_remains() {
    let scene = Scene::new().await;
    let (ann, bob) = (
        scene.created("ann", "owner").await,
        scene.created("bob", "owner").await,
    );
    let client = scene.database.client().await;
    // The token's own user is no owner who could sign in.
    let admin_only = "UPDATE users SET disabled = true WHERE username = 'owner'";
    let (of_ann, of_bob) = (
        scene.login("ann", SECRET).await.unwrap(),
        scene.login("bob", SECRET).await.unwrap(),
    );
    client.execute(admin_only, &[]).await.unwrap();
    let demote = |replica: &Replica, cookie: &str, id: &str| {
        let request = replica.request(Method::PATCH, &format!("/api/v1/users/{id}"));
        let request = request
            .header("cookie", cookie)
            .header("origin", replica.origin());
        answer(request.json(&json!({"role": "viewer"})))
    };
    let (one, two) = tokio::join!(
        demote(&scene.one, &of_ann, &bob),
        demote(&scene.other, &of_bob, &ann),
    );
    let mut statuses = [one.status, two.status];
    statuses.sort_unstable();
    assert!(
        [[200, 401], [200, 403], [200, 409]].contains(&statuses),
        "{statuses:?}"
    );
    let count = "SELECT count(*) FROM users WHERE role = 'owner' AND NOT disabled";
    let owners: i64 = client.query_one(count, &[]).await.unwrap().get(0);
    assert_eq!(owners, 1);
}

#[tokio::test]
async fn the_ways_to_sign_in_are_components_without_their_secrets() {
    let scene = Scene::new().await;
    let list = scene.one.get("/api/v1/authentications", &scene.owner).await;
    assert!(!list.text.contains("argon2"));
    let list = list.json();
    assert_eq!(list["total"], 4);
    assert_eq!(
        list["data"][0],
        json!({
            "id": "basic.admin",
            "type": "basic",
            "name": "admin",
            "configuration": {"user": "admin", "hash": "[REDACTED]"},
        })
    );
    let one = scene
        .one
        .get("/api/authentications/basic/viewer", &scene.owner)
        .await;
    assert_eq!(one.json()["id"], "basic.viewer");
    let none = scene
        .one
        .get("/api/v1/authentications/oidc/corp", &scene.owner)
        .await;
    assert_eq!(
        (none.status, none.error().as_str()),
        (404, "Component not found")
    );
}
