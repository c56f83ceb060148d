//! trueup drivers
