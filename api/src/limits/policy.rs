//! The limits that there are.

use super::Limit;
use crate::config::LimitConfig;

/// One of them; clients know it by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Log-ins from one address.
    LoginAddress,
    /// Failed log-ins to one account, wherever they come from.
    LoginAccount,
    /// Failed log-ins to one account from one device that has logged in to it before.
    LoginDevice,
    /// Wrong current passwords given in one session.
    PasswordSession,
    /// Refreshes from one address.
    RefreshAddress,
    /// Registrations from one address.
    RegisterAddress,
    /// Everything else from one address.
    ApiAddress,
}

impl Policy {
    /// Those that count requests by the address they come from.
    pub const BY_ADDRESS: [Self; 4] =
        [Self::LoginAddress, Self::RefreshAddress, Self::RegisterAddress, Self::ApiAddress];

    /// In headers, metrics and keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LoginAddress => "login-ip",
            Self::LoginAccount => "login-account",
            Self::LoginDevice => "login-device",
            Self::PasswordSession => "password-session",
            Self::RefreshAddress => "refresh-ip",
            Self::RegisterAddress => "register-ip",
            Self::ApiAddress => "api-ip",
        }
    }

    /// What is configured for it.
    pub fn rule(self, config: &LimitConfig) -> Rule {
        let limit = match self {
            Self::LoginAddress => config.limit_login_address,
            Self::LoginAccount | Self::LoginDevice | Self::PasswordSession => config.limit_login_account,
            Self::RefreshAddress => config.limit_refresh_address,
            Self::RegisterAddress => config.limit_register_address,
            Self::ApiAddress => config.limit_api_address,
        };
        Rule { policy: self, limit }
    }
}

/// A policy and its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub policy: Policy,
    pub limit: Limit,
}
