//! The handlers: each extracts, makes one call into the domain and answers.

mod health;
mod login;
mod logout;
mod password;
mod protected;
mod refresh;
mod register;
mod session_response;
mod sessions;

pub use self::{
    health::{health, ready},
    login::login,
    logout::logout,
    password::password,
    protected::protected,
    refresh::refresh,
    register::register,
    sessions::{end_session, events, logout_all, sessions},
};
