//! Users: who a session belongs to, and the statements that make, change and drop users.
//!
//! **Invariant:** no password is stored, only its verifier; while there are users, one of them is an admin who can log in.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::scalar::ScalarValue;
use juno_engine::{OnConflict, Write};

use super::{Session, blocking};
use crate::ops::healing::AUTOPILOT;
use crate::role::{Options, Role, RoleStatement, USERS, User};
use crate::verifier::Verifier;
use crate::{Error, Result, change};

/// A user as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub name: String,
    /// Whether the user may connect.
    pub login: bool,
    /// What checks the password; None where there is none.
    pub verifier: Option<Verifier>,
    /// The roles that the user is in.
    pub roles: Vec<Role>,
}

impl Account {
    /// The user that a session of this account belongs to.
    pub fn user(&self) -> User {
        User { name: self.name.clone(), role: self.roles.iter().copied().max() }
    }
}

/// All users by name.
pub type Accounts = BTreeMap<String, Account>;

impl Session {
    /// Another session over the same database, which belongs to a user.
    pub fn connect_as(&self, user: User) -> Session {
        let mut session = self.connect();
        session.user = user;
        session
    }

    /// Who the session belongs to.
    pub fn user(&self) -> &User {
        &self.user
    }

    /// The users as they are now; empty where none are set up and everybody on this machine is trusted.
    pub fn accounts(&self) -> Arc<Accounts> {
        Arc::clone(&self.shared.accounts.read())
    }

    /// Reads the users from their table: once, when the database is opened.
    pub(super) async fn load_accounts(&self) -> Result<()> {
        let mut accounts = Accounts::new();
        for batch in self.collect(&format!("SELECT name, login, verifier, roles FROM {USERS}")).await? {
            for row in 0..batch.num_rows() {
                let account = account(&batch, row)?;
                accounts.insert(account.name.clone(), account);
            }
        }
        *self.shared.accounts.write() = Arc::new(accounts);
        Ok(())
    }

    /// Runs a statement about users, which holds for those who connect from now on; what the client should be told.
    pub(super) async fn role_statement(&self, statement: &RoleStatement) -> Result<Vec<String>> {
        let _held = self.lock(USERS).await?;
        let before = self.accounts();
        let mut after = before.as_ref().clone();
        let notices = self.applied(&mut after, statement)?;
        let can_admin = |accounts: &Accounts| {
            let admin =
                |account: &Account| account.login && account.verifier.is_some() && account.roles.contains(&Role::Admin);
            accounts.values().any(admin)
        };
        if !after.is_empty() && !can_admin(&after) {
            let text = if before.is_empty() {
                "the first user must be an admin who can log in: CREATE USER name PASSWORD '…' IN ROLE admin"
            } else {
                "this would leave no admin who can log in: make another one first"
            };
            return Err(Error::InUse(text.into()));
        }
        if after.is_empty() && !before.is_empty() {
            return Err(Error::InUse("the last user cannot be dropped: then everybody would be let in".into()));
        }
        let gone: Vec<&str> = before.keys().filter(|name| !after.contains_key(*name)).map(String::as_str).collect();
        let new: Vec<&Account> = after.values().filter(|account| before.get(&account.name) != Some(account)).collect();
        let write = self.user_write(&new, &gone)?;
        let db = self.shared.db.clone();
        blocking(move || Ok(db.commit(vec![write])?)).await?;
        *self.shared.accounts.write() = Arc::new(after);
        Ok(notices)
    }

    /// Applies a statement to the users; what the client should be told.
    fn applied(&self, accounts: &mut Accounts, statement: &RoleStatement) -> Result<Vec<String>> {
        let mut notices = Vec::new();
        let missing = |name: &str| Error::UndefinedType(format!("role \"{name}\" does not exist"));
        match statement {
            RoleStatement::Create { name, options } => {
                if accounts.contains_key(name) {
                    return Err(Error::DuplicateRole(format!("role \"{name}\" already exists")));
                }
                if name == AUTOPILOT {
                    let text = format!("\"{name}\" is the name that juno itself acts under: choose another");
                    return Err(Error::InvalidArgument(text));
                }
                let mut account = Account { name: name.clone(), login: false, verifier: None, roles: Vec::new() };
                self.apply(&mut account, options)?;
                accounts.insert(name.clone(), account);
            }
            RoleStatement::Alter { name, options } => {
                let account = accounts.get_mut(name).ok_or_else(|| missing(name))?;
                self.apply(account, options)?;
            }
            RoleStatement::Drop { names, if_exists } => {
                for name in names {
                    if *name == self.user.name {
                        return Err(Error::InUse("current user cannot be dropped".into()));
                    }
                    match accounts.remove(name) {
                        Some(_) => {}
                        None if *if_exists => notices.push(format!("role \"{name}\" does not exist, skipping")),
                        None => return Err(missing(name)),
                    }
                }
            }
            RoleStatement::Grant { roles, names } => {
                for name in names {
                    add(accounts.get_mut(name).ok_or_else(|| missing(name))?, roles);
                }
            }
            RoleStatement::Revoke { roles, names } => {
                for name in names {
                    let account = accounts.get_mut(name).ok_or_else(|| missing(name))?;
                    account.roles.retain(|role| !roles.contains(role));
                }
            }
        }
        Ok(notices)
    }

    fn apply(&self, account: &mut Account, options: &Options) -> Result<()> {
        account.login = options.login.unwrap_or(account.login);
        match &options.password {
            None => {}
            Some(None) => account.verifier = None,
            Some(Some(text)) if text.is_empty() => {
                return Err(Error::InvalidArgument("a password cannot be empty".into()));
            }
            Some(Some(text)) => {
                let random = self.shared.db.system().random();
                account.verifier = Some(Verifier::parse(text).unwrap_or_else(|| Verifier::new(text, random)));
            }
        }
        add(account, &options.roles);
        Ok(())
    }

    fn user_write(&self, new: &[&Account], gone: &[&str]) -> Result<Write> {
        let catalog = self.shared.db.catalog();
        let table = catalog.table(USERS).ok_or_else(|| Error::Internal(format!("table {USERS} is missing")))?;
        let names = |names: Vec<&str>| ScalarValue::iter_to_array(names.into_iter().map(ScalarValue::from));
        let mut write = Write { table: USERS.into(), rows: None, deletes: None, on_conflict: OnConflict::Replace };
        if !gone.is_empty() {
            let schema = Arc::new(Schema::new(vec![Field::new("name", DataType::Utf8, false)]));
            write.deletes = Some(RecordBatch::try_new(schema, vec![names(gone.to_vec())?])?);
        }
        if !new.is_empty() {
            let text = |of: fn(&Account) -> Option<String>| {
                ScalarValue::iter_to_array(new.iter().map(|account| ScalarValue::Utf8(of(account))))
            };
            let login = new.iter().map(|account| ScalarValue::Boolean(Some(account.login)));
            let arrays = vec![
                text(|account| Some(account.name.clone()))?,
                ScalarValue::iter_to_array(login)?,
                text(|account| account.verifier.as_ref().map(ToString::to_string))?,
                text(|account| Some(account.roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")))?,
            ];
            let fields = ["name", "login", "verifier", "roles"].iter().zip(&arrays);
            let fields = fields.map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
            let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            let options = RecordBatchOptions::new().with_row_count(Some(new.len()));
            let rows = RecordBatch::try_new_with_options(schema, arrays, &options)?;
            write.rows = Some(change::inserted(table, &self.shared.db, rows)?);
        }
        Ok(write)
    }
}

fn add(account: &mut Account, roles: &[Role]) {
    account.roles.extend(roles);
    account.roles.sort();
    account.roles.dedup();
}

fn account(batch: &RecordBatch, row: usize) -> Result<Account> {
    let text = |column: usize| {
        let array = batch.column(column).as_string::<i32>();
        array.is_valid(row).then(|| array.value(row).to_owned())
    };
    let name = text(0).unwrap_or_default();
    let damaged = || Error::Corrupt(format!("the row of user \"{name}\" in {USERS} cannot be read"));
    let verifier = match text(2) {
        Some(text) => Some(Verifier::parse(&text).ok_or_else(damaged)?),
        None => None,
    };
    let roles = text(3).unwrap_or_default();
    let roles = roles.split(',').filter(|role| !role.is_empty()).map(|role| role.parse().map_err(|_| damaged()));
    let roles = roles.collect::<Result<Vec<_>>>()?;
    Ok(Account { login: batch.column(1).as_boolean().value(row), verifier, roles, name })
}
