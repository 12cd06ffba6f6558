//! The command as people and scripts meet it: the built binary, its output and its exit status.

mod command {
    pub mod support;

    mod check;
    mod fmt;
    mod show;
    mod usage;
}
