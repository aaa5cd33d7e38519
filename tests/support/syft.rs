//! The real Syft, in the version that `make services` installs from PyPI.

use std::path::PathBuf;

use crate::server::target;

/// For `DD_SECURITY_SYFT_COMMAND`.
pub fn command() -> PathBuf {
    let program = target().join("tools/syft/syft");
    assert!(
        program.exists(),
        "{program:?} is missing: run `make services`"
    );
    program
}
