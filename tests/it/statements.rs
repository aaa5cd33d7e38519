//! Every SQL statement fits the schema that the migrations make.

use plimsoll_support::postgres::Database;

#[tokio::test]
async fn every_statement_is_prepared_against_the_migrated_schema() {
    let database = Database::migrated().await;
    let client = database.client().await;
    let statements = plimsoll_store::all_statements();
    let mut wrong = Vec::new();
    for (name, sql) in &statements {
        if let Err(error) = client.prepare(sql).await {
            wrong.push(format!("{name}: {error:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A file of statements that is not in the list would go unnoticed.
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../core/store/src");
    for file in std::fs::read_dir(source).unwrap().flatten() {
        let path = file.path();
        let declares = std::fs::read_to_string(&path)
            .unwrap()
            .lines()
            .any(|line| line.starts_with("statements! {"));
        let module = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let listed = statements
            .iter()
            .any(|(name, _)| name.split("::").any(|part| part == module));
        assert!(!declares || listed, "{module} is not in all_statements");
    }
}
