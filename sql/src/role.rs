//! Roles and the statements about users: who may do what, and how users are made.
//!
//! A role includes those before it:
//!
//! | role | may |
//! |---|---|
//! | viewer | read: SELECT, SHOW, EXPLAIN, COPY … TO STDOUT |
//! | operator | write rows: INSERT, UPDATE, DELETE, COPY … FROM STDIN, ingest, CALL of what computes and plans |
//! | responder | what acts on other systems, the kill switch |
//! | approver | approve what others asked for |
//! | admin | define: CREATE, ALTER, DROP, users, files on the server (COPY, backup, check), juno's own tables |
//!
//! **Invariant:** decides from a statement's kind and its tables; knows no connection and no password.

use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;

use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{Expr, FunctionArguments, Ident, Select, Value, VisitMut, VisitorMut};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::Token;

use crate::copy::{CopyPlace, Subject};
use crate::definition::folded;
use crate::statement::Kind;
use crate::statement::own::near;
use crate::{Error, Result, procedure, spelling};

/// The table that holds users; only the statements here change it.
pub(crate) const USERS: &str = "juno_users";
/// The table of models: procedures change it, and keep its artefacts and checksums true to each other.
pub(crate) const MODELS: &str = "juno_models";
/// The audit: only operations add to it.
pub(crate) const AUDIT: &str = "juno_audit";
/// The view of settings, which only admins read.
pub(crate) const CONFIG: &str = "operations_config";
/// Tables of juno's own begin so.
const OWN_PREFIX: &str = "juno_";
/// The longest name of a user, in bytes: PostgreSQL's own limit.
const NAME_BYTES_MAX: usize = 63;

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Writes rows and calls procedures.
    Operator,
    /// Acts on other systems.
    Responder,
    /// Approves what others asked for.
    Approver,
    /// Defines tables and users.
    Admin,
}

impl Role {
    /// All of them, each including those before it.
    pub const ALL: [Role; 5] = [Role::Viewer, Role::Operator, Role::Responder, Role::Approver, Role::Admin];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Responder => "responder",
            Role::Approver => "approver",
            Role::Admin => "admin",
        })
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Role> {
        let role = Role::ALL.into_iter().find(|role| role.to_string() == text);
        role.ok_or_else(|| {
            let all = Role::ALL.map(|role| role.to_string()).join(", ");
            Error::UndefinedType(format!("role \"{text}\" does not exist; roles to be in are {all}"))
        })
    }
}

/// Who runs statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The highest role; None where the user is in none.
    pub role: Option<Role>,
}

impl User {
    /// One who may do everything: where no users are set up, and juno itself.
    pub fn trusted(name: &str) -> User {
        User { name: name.to_owned(), role: Some(Role::Admin) }
    }

    /// Refuses what needs a higher role.
    ///
    /// # Errors
    /// [`Error::Forbidden`], which names the role that is missing.
    pub fn needs(&self, role: Role, what: &str) -> Result<()> {
        if self.role.is_some_and(|own| own >= role) {
            return Ok(());
        }
        Err(Error::Forbidden(format!("permission denied for {what}: user \"{}\" is not in role {role}", self.name)))
    }
}

/// A statement about users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RoleStatement {
    Create { name: String, options: Options },
    Alter { name: String, options: Options },
    Drop { names: Vec<String>, if_exists: bool },
    Grant { roles: Vec<Role>, names: Vec<String> },
    Revoke { roles: Vec<Role>, names: Vec<String> },
}

/// What CREATE and ALTER say of a user.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Options {
    pub(crate) login: Option<bool>,
    /// Some(None) takes the password away.
    pub(crate) password: Option<Option<String>>,
    pub(crate) roles: Vec<Role>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("login", &self.login).field("roles", &self.roles).finish_non_exhaustive()
    }
}

impl RoleStatement {
    /// The command tag.
    pub(crate) fn tag(&self) -> &'static str {
        match self {
            RoleStatement::Create { .. } => "CREATE ROLE",
            RoleStatement::Alter { .. } => "ALTER ROLE",
            RoleStatement::Drop { .. } => "DROP ROLE",
            RoleStatement::Grant { .. } => "GRANT ROLE",
            RoleStatement::Revoke { .. } => "REVOKE ROLE",
        }
    }

    /// Whether a user changes nothing but the own password.
    fn is_own_password(&self, user: &User) -> bool {
        matches!(self, RoleStatement::Alter { name, options: Options { login: None, password: Some(_), roles } }
            if *name == user.name && roles.is_empty())
    }
}

/// Refuses a statement that the user's role does not allow.
pub(crate) fn permit(user: &User, kind: &Kind) -> Result<()> {
    let (role, what) = match kind {
        Kind::Query(..) => (Role::Viewer, "queries"),
        Kind::Copy(copy) => match (&copy.place, &copy.subject) {
            (CopyPlace::File(_), _) => (Role::Admin, "COPY of a file on the server"),
            (CopyPlace::Client, Subject::From(_)) => (Role::Viewer, "queries"),
            (CopyPlace::Client, Subject::Into { table, .. }) => {
                own_table(user, &table.to_string())?;
                (Role::Operator, "changes")
            }
        },
        Kind::Change(_) => (Role::Operator, "changes"),
        Kind::Call(function) => return procedure::permit(user, function),
        Kind::Configure(_, kind) => return permit(user, kind),
        Kind::Maintain(maintenance) => (Role::Operator, maintenance.tag()),
        Kind::Role(statement) if statement.is_own_password(user) => return Ok(()),
        Kind::Role(_) => (Role::Admin, "users and roles"),
        Kind::Truncate { names, .. } => {
            names.iter().try_for_each(|name| own_table(user, &name.to_string()))?;
            (Role::Operator, "changes")
        }
        Kind::CreateTable(_) | Kind::AlterTable(_) | Kind::DropTable { .. } => (Role::Admin, "tables' definitions"),
        Kind::Rollup(_) => (Role::Admin, "rollups"),
        Kind::Detector(_) => (Role::Admin, "detectors"),
        Kind::CreateView(_) | Kind::DropView { .. } => (Role::Admin, "views' definitions"),
        Kind::Declare(..) | Kind::Fetch(..) => (Role::Viewer, "queries"),
        Kind::Begin(_)
        | Kind::Commit { .. }
        | Kind::Rollback { .. }
        | Kind::Savepoint(_)
        | Kind::RollbackTo(_)
        | Kind::Release(_)
        | Kind::Close(_)
        | Kind::Set(_)
        | Kind::Show(_)
        | Kind::Reset(_)
        | Kind::Discard
        | Kind::Forget(_) => return Ok(()),
    };
    user.needs(role, what)
}

/// Refuses a read of the users' table and of the settings to all but admins.
pub(crate) fn permit_reading<'a>(user: &User, tables: impl IntoIterator<Item = &'a String>) -> Result<()> {
    match tables.into_iter().find(|table| [USERS, CONFIG].contains(&table.as_str())) {
        Some(table) => user.needs(Role::Admin, &format!("table {table}")),
        None => Ok(()),
    }
}

/// Refuses changes of juno's own tables to all but admins, and of the users' table to everybody.
pub(crate) fn own_table(user: &User, table: &str) -> Result<()> {
    let table = table.trim_start_matches("public.").trim_matches('"');
    if table == USERS {
        let text = format!("table {USERS} is changed by CREATE USER, ALTER USER, DROP USER, GRANT and REVOKE");
        return Err(Error::Forbidden(text));
    }
    if table == MODELS {
        let text =
            format!("table {MODELS} is changed by CALL train_threat_model, promote_model, rollback_model and others");
        return Err(Error::Forbidden(text));
    }
    if table == AUDIT {
        return Err(Error::Forbidden(format!("table {AUDIT} is added to by operations and never changed")));
    }
    if table.starts_with(OWN_PREFIX) { user.needs(Role::Admin, &format!("table {table}")) } else { Ok(()) }
}

/// Whether a text may ask who runs it.
pub(crate) fn asks_user(sql: &str) -> bool {
    let lower = sql.to_ascii_lowercase();
    ["current_user", "session_user", "current_role", "user"].iter().any(|word| lower.contains(word))
}

/// Puts the user's name where a statement asks for it.
pub(crate) fn name_user(statement: &mut Parsed, user: &str) {
    struct Who<'a>(&'a str);
    impl VisitorMut for Who<'_> {
        type Break = ();

        fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
            spelling::keep_names(&mut select.projection, asked);
            ControlFlow::Continue(())
        }

        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            if asked(expr).is_some() {
                *expr = Expr::value(Value::SingleQuotedString(self.0.to_owned()));
            }
            ControlFlow::Continue(())
        }
    }
    if let Parsed::Statement(statement) = statement {
        let _ = VisitMut::visit(statement.as_mut(), &mut Who(user));
    }
}

/// The name under which an expression asks who runs it.
fn asked(expr: &Expr) -> Option<Ident> {
    let Expr::Function(function) = expr else { return None };
    let bare = match &function.args {
        FunctionArguments::None => true,
        FunctionArguments::List(list) => list.args.is_empty(),
        FunctionArguments::Subquery(_) => false,
    };
    let name = function.name.0.last()?.as_ident()?.value.to_lowercase();
    let asks = matches!(name.as_str(), "current_user" | "session_user" | "current_role" | "user");
    (bare && asks).then(|| Ident::new(name))
}

/// The statements of a text whose first begins as one about users.
pub(crate) fn parse(sql: &str) -> Result<Vec<RoleStatement>> {
    let dialect = PostgreSqlDialect {};
    let mut parser = Parser::new(&dialect).try_with_sql(sql)?;
    let mut statements = Vec::new();
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        if parser.peek_token_ref().token == Token::EOF {
            return Ok(statements);
        }
        statements.push(statement(&mut parser)?);
        let next = parser.peek_token().token;
        if !matches!(next, Token::SemiColon | Token::EOF) {
            return Err(near(&next));
        }
    }
}

fn statement(parser: &mut Parser<'_>) -> Result<RoleStatement> {
    let word = parser.parse_identifier()?.value.to_lowercase();
    let subject = |parser: &mut Parser<'_>| {
        let word = parser.parse_identifier()?.value.to_lowercase();
        match word.as_str() {
            "user" | "role" => Ok(word == "user"),
            _ => Err(Error::Unsupported("statements about users must stand in a message of their own".into())),
        }
    };
    match word.as_str() {
        "create" => {
            let login = subject(parser)?;
            let name = name(parser)?;
            if Role::from_str(&name).is_ok() || name.starts_with("pg_") {
                return Err(Error::DuplicateRole(format!("role name \"{name}\" is reserved")));
            }
            let mut options = options(parser)?;
            options.login = options.login.or(Some(login));
            Ok(RoleStatement::Create { name, options })
        }
        "alter" => {
            subject(parser)?;
            Ok(RoleStatement::Alter { name: name(parser)?, options: options(parser)? })
        }
        "drop" => {
            subject(parser)?;
            let if_exists = parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS]);
            Ok(RoleStatement::Drop { names: names(parser)?, if_exists })
        }
        "grant" => {
            let roles = roles(parser)?;
            parser.expect_keyword(Keyword::TO)?;
            Ok(RoleStatement::Grant { roles, names: names(parser)? })
        }
        "revoke" => {
            let roles = roles(parser)?;
            parser.expect_keyword(Keyword::FROM)?;
            Ok(RoleStatement::Revoke { roles, names: names(parser)? })
        }
        other => Err(Error::Unsupported(format!(
            "{} must stand in another message than statements about users",
            other.to_uppercase()
        ))),
    }
}

fn name(parser: &mut Parser<'_>) -> Result<String> {
    let name = folded(&parser.parse_identifier()?);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(['\0', '\n', ':']) {
        return Err(Error::InvalidArgument(format!(
            "\"{}\" is no name for a user: it must have 1 to {NAME_BYTES_MAX} bytes, and no colon in it",
            name.escape_debug()
        )));
    }
    Ok(name)
}

fn names(parser: &mut Parser<'_>) -> Result<Vec<String>> {
    let mut names = vec![name(parser)?];
    while parser.consume_token(&Token::Comma) {
        names.push(name(parser)?);
    }
    Ok(names)
}

fn roles(parser: &mut Parser<'_>) -> Result<Vec<Role>> {
    let names = names(parser)?;
    if parser.parse_keyword(Keyword::ON) {
        let text = "privileges on single tables are not supported: GRANT a role such as viewer or operator to the user";
        return Err(Error::Unsupported(text.into()));
    }
    names.iter().map(|name| name.parse()).collect()
}

fn options(parser: &mut Parser<'_>) -> Result<Options> {
    let mut options = Options::default();
    let _ = parser.parse_keyword(Keyword::WITH);
    while let Token::Word(_) = parser.peek_token_ref().token {
        let word = parser.parse_identifier()?.value.to_lowercase();
        match word.as_str() {
            "login" => options.login = Some(true),
            "nologin" => options.login = Some(false),
            "superuser" => options.roles.push(Role::Admin),
            "nosuperuser" | "inherit" | "noinherit" | "nocreatedb" | "nocreaterole" | "noreplication"
            | "nobypassrls" | "encrypted" => {}
            "password" if parser.parse_keyword(Keyword::NULL) => options.password = Some(None),
            "password" => options.password = Some(Some(password(parser)?)),
            "in" => {
                if !parser.parse_keyword(Keyword::ROLE) {
                    parser.expect_keyword(Keyword::GROUP)?;
                }
                options.roles.extend(roles(parser)?);
            }
            other => {
                let text = format!(
                    "{} is not supported for users; there are LOGIN, NOLOGIN, PASSWORD and IN ROLE",
                    other.to_uppercase()
                );
                return Err(Error::Unsupported(text));
            }
        }
    }
    Ok(options)
}

fn password(parser: &mut Parser<'_>) -> Result<String> {
    match parser.next_token().token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => Ok(text),
        _ => Err(Error::Syntax("syntax error: PASSWORD takes a text in single quotes, or NULL".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(sql: &str) -> RoleStatement {
        let mut all = parse(sql).expect(sql);
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    #[test]
    fn statements_about_users_are_read_as_postgresql_spells_them() {
        let create = one("CREATE USER Ada WITH ENCRYPTED PASSWORD 'it''s' IN ROLE operator, viewer;");
        let RoleStatement::Create { name, options } = create else { panic!("{create:?}") };
        assert_eq!((name.as_str(), options.login), ("ada", Some(true)));
        assert_eq!((options.password, options.roles), (Some(Some("it's".into())), vec![Role::Operator, Role::Viewer]));
        assert!(!format!("{:?}", one("ALTER USER ada PASSWORD 'secret'")).contains("secret"));
        assert!(
            matches!(one("CREATE ROLE batch"), RoleStatement::Create { options, .. } if options.login == Some(false))
        );
        assert!(
            matches!(one("GRANT admin TO ada, \"Bob\""), RoleStatement::Grant { names, .. } if names == ["ada", "Bob"])
        );
        assert!(matches!(one("DROP USER IF EXISTS ada"), RoleStatement::Drop { if_exists: true, .. }));
        assert_eq!(parse("CREATE USER a; GRANT viewer TO a").expect("two").len(), 2);
        for odd in [
            "GRANT SELECT ON t TO a",
            "CREATE USER viewer",
            "CREATE USER a VALID UNTIL 'x'",
            "GRANT boss TO a",
            "CREATE USER a; SELECT 1",
        ] {
            assert!(parse(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_role_includes_those_before_it() {
        let user = |role| User { name: "u".into(), role };
        for (at, role) in Role::ALL.into_iter().enumerate() {
            for (needed_at, needed) in Role::ALL.into_iter().enumerate() {
                assert_eq!(user(Some(role)).needs(needed, "x").is_ok(), at >= needed_at);
            }
            assert!(user(None).needs(role, "x").is_err());
        }
        assert!(own_table(&user(Some(Role::Operator)), "juno_migrations").is_err());
        assert!(own_table(&User::trusted("root"), "public.juno_users").is_err());
        assert!(own_table(&User::trusted("root"), "juno_models").is_err());
        assert!(own_table(&User::trusted("root"), "juno_audit").is_err());
        assert!(permit_reading(&user(Some(Role::Approver)), &[CONFIG.to_owned()]).is_err());
    }
}
