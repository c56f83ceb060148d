//! trueup drivers

pub mod age;
