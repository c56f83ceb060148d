//! Steps and plans: data that exists before anything runs.
