/// Declares SQL statements as constants and lists them for the test that prepares each against the
/// migrated schema:
///
/// ```text
/// statements! {
///     /// One container by id.
///     GET = "SELECT … FROM containers WHERE id = $1";
/// }
/// ```
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $sql:expr;)+) => {
        $($(#[$doc])* const $name: &str = $sql;)+

        pub(crate) const STATEMENTS: &[(&str, &str)] =
            &[$((concat!(module_path!(), "::", stringify!($name)), $name)),+];
    };
}
