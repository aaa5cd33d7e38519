//! End to end, on real parts: one binary, so that it is linked once.
//!
//! Add a file per subject and name it here.

mod access;
mod api_binary;
mod events;
mod lists;
mod matrix;
mod reads;
mod replica;
mod standalone;
mod statements;
mod stream;
mod support;
mod watch;
mod worker;
