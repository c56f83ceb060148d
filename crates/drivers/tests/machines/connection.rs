//! Connections: whom they believe, and how they come back.
