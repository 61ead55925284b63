//! What changes accounts. Each may be repeated, and runs under the lock of the portal's accounts.

use service_kit::credentials::Candidate;

use super::{
    AccountName, Flavour, Password, Rights, Server, Session, SqlError, login, rights,
    server::LoginError, session::bounded, statement,
};

/// Makes an account for pods, or gives an existing one this password; unlocked, with the rights of
/// [`Rights::Application`] and no others. Its schema, and whether it must use TLS, are those of the
/// session's server.
pub async fn ensure_application_account(
    root: &mut Session,
    name: &AccountName,
    password: &Password,
) -> Result<(), SqlError> {
    ensure_account(root, name, password, Rights::Application).await
}

/// Makes the account of a migration, with the rights of [`Rights::Migration`].
pub async fn ensure_migration_account(
    root: &mut Session,
    name: &AccountName,
    password: &Password,
) -> Result<(), SqlError> {
    ensure_account(root, name, password, Rights::Migration).await
}

/// Removes an account, if it is there. Sessions of it go on until they end.
pub async fn drop_account(root: &mut Session, name: &AccountName) -> Result<(), SqlError> {
    root.execute_locked(name, &[statement::drop_account(name)]).await
}

/// Refuses further logins of an account, if it is there. Sessions of it go on until they end.
pub async fn lock_account(root: &mut Session, name: &AccountName) -> Result<(), SqlError> {
    let work = async {
        root.lock(name).await?;
        let done = refuse_logins(root, name).await;
        root.unlock(name).await;
        done
    };
    let done = bounded(work).await;
    root.finish("lock the account", done)
}

/// Gives an account the password `new` beside `old`, the one it has. Both are let in afterwards.
///
/// MySQL moves the current password to the second place, so doing it again would throw `old` away:
/// there `new` is tried first, which the server counts as a denied login. MariaDB is told both
/// passwords, so doing it again changes nothing and nothing needs to be tried.
pub async fn retain_password(
    root: &mut Session,
    name: &AccountName,
    new: &Password,
    old: &Password,
) -> Result<(), SqlError> {
    if root.flavour() == Flavour::MySql && is_let_in(&root.server, name, new).await? {
        return Ok(());
    }
    let retain = statement::retain_password(root.flavour(), name, new, old);
    root.execute_locked(name, &[retain]).await
}

/// Takes every password but `new` from an account.
pub async fn discard_old_password(
    root: &mut Session,
    name: &AccountName,
    new: &Password,
) -> Result<(), SqlError> {
    let discard = statement::discard_old_password(root.flavour(), name, new);
    root.execute_locked(name, &[discard]).await
}

async fn refuse_logins(root: &mut Session, name: &AccountName) -> Result<(), SqlError> {
    // With validate_password, MySQL answers 1819 to ALTER USER IF EXISTS where there is no such account.
    let found: Vec<String> =
        root.rows(&format!("look for the account {name}"), &statement::find_account(name)).await?;
    if found.is_empty() {
        return Ok(());
    }
    let lock = statement::lock_account(root.flavour(), name);
    root.execute(&[lock]).await
}

async fn is_let_in(
    server: &Server,
    name: &AccountName,
    password: &Password,
) -> Result<bool, LoginError> {
    let candidate =
        Candidate { username: name.as_str().to_owned(), password: password.secret().clone() };
    match login(server, &candidate).await {
        Ok(session) => {
            session.close().await;
            Ok(true)
        }
        Err(LoginError::Restricted { .. }) => Ok(true),
        // Neither is known to be about the password.
        Err(error @ LoginError::Denied { .. }) if !error.is_locked() && !error.is_blocked() => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn ensure_account(
    root: &mut Session,
    name: &AccountName,
    password: &Password,
    issued: Rights,
) -> Result<(), SqlError> {
    let work = async {
        root.lock(name).await?;
        let done = ensure_account_locked(root, name, password, issued).await;
        root.unlock(name).await;
        done
    };
    let done = bounded(work).await;
    root.finish("make the account", done)
}

async fn ensure_account_locked(
    root: &mut Session,
    name: &AccountName,
    password: &Password,
    issued: Rights,
) -> Result<(), SqlError> {
    let statements = statement::ensure_account(root.flavour(), name, password, &root.server.tls);
    root.execute(&statements).await?;
    // What is missing is granted before what is too much is revoked, and nothing else is touched:
    // `REVOKE ALL PRIVILEGES` would take the rights of an account in use away for a moment.
    let repair = compare_rights(root, name, issued).await?;
    if repair.difference().is_none() {
        return Ok(());
    }
    let object = rights::object(root.server.schema.as_str(), &root.dialect);
    let grant = (!repair.grant.is_empty()).then(|| statement::grant(&repair.grant, &object, name));
    let revoke = repair.revoke.iter().map(|what| statement::revoke(what, name));
    let statements: Vec<_> = grant.into_iter().chain(revoke).collect();
    root.execute(&statements).await?;
    match compare_rights(root, name, issued).await?.difference() {
        None => Ok(()),
        Some(difference) => Err(SqlError::Rights { account: name.clone(), difference }),
    }
}

async fn compare_rights(
    root: &mut Session,
    name: &AccountName,
    issued: Rights,
) -> Result<rights::Repair, SqlError> {
    let purpose = format!("read the rights of {name}");
    let lines: Vec<String> = root.rows(&purpose, &statement::show_grants(name)).await?;
    Ok(rights::compare(issued, root.server.schema.as_str(), &root.dialect, &lines))
}
