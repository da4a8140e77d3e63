//! `mainstay demo`: a small real world that Mainstay starts itself.

pub mod load;
pub mod mail_sink;
pub mod shop;
