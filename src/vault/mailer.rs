//! Mails in the name of the application, the way its settings say.

use std::sync::Arc;

use crate::auth::superusers::Superusers;
use crate::error::{Error, Result};
use crate::notify::mail::{self, Content, Mail};
use crate::settings::store::Store;

/// Sends mails.
#[derive(Debug, Clone)]
pub struct Mailer {
    settings: Arc<Store>,
    superusers: Superusers,
}

impl Mailer {
    /// A mailer that follows the settings and knows the superusers.
    pub fn new(settings: Arc<Store>, superusers: Superusers) -> Self {
        Self { settings, superusers }
    }

    /// Who is told when something goes wrong.
    pub fn superusers(&self) -> &Superusers {
        &self.superusers
    }

    /// Sends one mail.
    ///
    /// # Errors
    /// The mail server does not take it.
    pub async fn send(&self, to: &str, subject: &str, text: &str) -> Result<()> {
        let settings = self.settings.current().await?;
        let (meta, smtp) = (&settings.values().meta, &settings.values().smtp);
        let route = match smtp.enabled {
            false => mail::Route::Sendmail,
            true => mail::Route::Smtp(mail::Smtp {
                host: smtp.host.clone(),
                port: u16::try_from(smtp.port).unwrap_or_default(),
                username: smtp.username.clone(),
                password: smtp.password.expose().to_owned(),
                login: smtp.auth_method == "LOGIN",
                tls: smtp.tls,
                local_name: smtp.local_name.clone(),
            }),
        };
        let mail = Mail {
            sender_name: meta.sender_name.clone(),
            sender_address: meta.sender_address.clone(),
            to: to.to_owned(),
            subject: subject.to_owned(),
            content: Content::Text(text.to_owned()),
        };
        mail::send(&route, &mail).await
    }

    /// Tells every superuser that a scheduled backup failed, as PocketBase does. That a mail
    /// does not go out is logged: there is nobody else to tell.
    pub async fn report_failed_backup(&self, error: &Error) {
        let subject = "The scheduled backup failed";
        let mut text = format!("The scheduled backup failed:\n\n{}\n", error.message());
        if let Some(hint) = error.operator_hint() {
            text.push_str(&format!("\n{hint}\n"));
        }
        self.tell_all(subject, text).await;
    }

    /// Tells every superuser that restored data was taken back, in the same way.
    pub async fn report_rolled_back(&self, error: &Error) {
        let text = format!("A restore was rolled back:\n\n{}\n", error.message());
        self.tell_all("A restore was rolled back", text).await;
    }

    async fn tell_all(&self, subject: &str, mut text: String) {
        tracing::info!(subject, "telling the superusers by mail");
        text.push_str("\nThe server's log has the details.\n");
        let superusers = match self.superusers.list().await {
            Ok(superusers) => superusers,
            Err(error) => {
                tracing::error!(error = error.full(), subject, "nobody was told by mail");
                return;
            }
        };
        for superuser in superusers {
            if let Err(error) = self.send(&superuser.email, subject, &text).await {
                let to = superuser.email;
                tracing::error!(to, error = error.full(), subject, "cannot mail");
            }
        }
    }
}
