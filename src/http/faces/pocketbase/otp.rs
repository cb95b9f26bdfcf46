//! One-time passwords: `request-otp` and `auth-with-otp`.

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::json;

use super::auth::{admit, auth_collection, credentials_form, form_mfa_id, required, text};
use crate::auth::mfa::Method;
use crate::auth::otp::{OtpMail, OtpOutcome};
use crate::http::bind::{Field, Shape};
use crate::http::call::Call;
use crate::http::fault::{Answer, ApiError, VALIDATION};
use crate::http::respond;

const NOT_CONFIGURED: &str = "The collection is not configured to allow OTP authentication.";

/// `POST …/request-otp`
pub(super) async fn request(call: &mut Call, name: &[u8]) -> Answer<HttpResponse> {
    const FORM: &[Field] = &[Field { name: "email", element: "Email", shape: Shape::Text }];
    let (collection, options) = auth_collection(call, name).await?;
    if !options.otp.enabled {
        return Err(ApiError::forbidden(NOT_CONFIGURED));
    }
    let form = credentials_form(call, FORM).await?;
    let email = text(&form, "email");
    if let Some(broken) = required("email", email) {
        return Err(ApiError::invalid(VALIDATION, &[broken]));
    }
    let requested = call.services.directory.request_otp(&collection, email).await?;
    if let Some(mail) = requested.mail {
        send(call, &requested.otp_id, mail);
    }
    respond::ok(call, &json!({ "otpId": requested.otp_id }))
}

/// `POST …/auth-with-otp`
pub(super) async fn login(call: &mut Call, name: &[u8]) -> Answer<HttpResponse> {
    const FORM: &[Field] = &[
        Field { name: "otpId", element: "OTPId", shape: Shape::Text },
        Field { name: "password", element: "Password", shape: Shape::Text },
        Field { name: "mfaId", element: "MFAId", shape: Shape::Text },
    ];
    let (collection, options) = auth_collection(call, name).await?;
    if !options.otp.enabled {
        return Err(ApiError::forbidden(NOT_CONFIGURED));
    }
    let form = credentials_form(call, FORM).await?;
    let (otp_id, password) = (text(&form, "otpId"), text(&form, "password"));
    let broken: Vec<_> =
        required("otpId", otp_id).into_iter().chain(required("password", password)).collect();
    if !broken.is_empty() {
        return Err(ApiError::invalid(VALIDATION, &broken));
    }
    let directory = &call.services.directory;
    match directory.authenticate_otp(&collection, otp_id, password).await? {
        OtpOutcome::Accepted(identity) => {
            let of_form = Some(text(&form, "mfaId").to_owned()).filter(|id| !id.is_empty());
            admit(call, &identity, Method::Otp, form_mfa_id(call).or(of_form)).await
        }
        OtpOutcome::Refused => Err(ApiError::bad_request("Invalid or expired OTP")),
        OtpOutcome::TooManyAttempts => {
            let message = "Too many attempts, please try again later with a new OTP.";
            Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, message))
        }
    }
}

/// Mails the password in the background: the time of the answer must not tell whether there
/// was anybody to mail to.
fn send(call: &Call, otp_id: &str, mail: OtpMail) {
    let (services, otp_id) = (call.services.clone(), otp_id.to_owned());
    services.vault.runtime().clone().spawn(async move {
        let to = mail.recipient.email().to_owned();
        let text = format!(
            "Your one-time password is: {}\n\n\
             If you did not ask for it, you can ignore this mail.\n",
            mail.password
        );
        let sent = services.mailer.send(&to, "Your one-time password", &text).await;
        let noted = match &sent {
            Ok(()) => services.directory.otp_sent(&otp_id, &to).await,
            Err(_) => services.directory.delete_otp(&otp_id).await.map(drop),
        };
        for error in [sent.err(), noted.err()].into_iter().flatten() {
            tracing::error!(error = error.full(), "a one-time password was not sent");
        }
    });
}
