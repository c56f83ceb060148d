//! trueup drivers

pub mod age;
pub mod store;
