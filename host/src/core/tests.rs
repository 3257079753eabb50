//! The core by itself: what is decided can be applied, the same everywhere.
