//! One file a verb: arguments in, text and an exit code out.
