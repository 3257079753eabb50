//! How the mail API finds out whether an access token is good.

use std::io;
use std::sync::Arc;

use crate::oidc::Introspection;

/// Tells whether an access token is good: a function in this process, or a question to a token server.
#[derive(Clone)]
pub struct TokenCheck(Kind);

#[derive(Clone)]
enum Kind {
    Function(Arc<dyn Fn(&str) -> bool + Send + Sync>),
    Introspection(Introspection),
}

impl TokenCheck {
    /// Asks a function.
    pub fn new(is_valid: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Kind::Function(Arc::new(is_valid)))
    }

    /// Asks a token server (RFC 7662).
    pub(crate) fn introspection(introspection: Introspection) -> Self {
        Self(Kind::Introspection(introspection))
    }

    /// Tells whether the token is good now.
    ///
    /// # Errors
    /// The token server does not answer.
    pub async fn is_valid(&self, access_token: &str) -> io::Result<bool> {
        match &self.0 {
            Kind::Function(is_valid) => Ok(is_valid(access_token)),
            Kind::Introspection(introspection) => introspection.is_valid(access_token).await,
        }
    }
}
