//! Probes of databases that speak SQL.

use std::time::Duration;

use super::super::Secret;
use super::super::whole::Resolver;
use super::DataRole;
use crate::config::raw::{RawMysqlProbe, RawPostgresProbe};
use crate::config::read::{Field, Span, Text};
use crate::config::secrets::SecretRef;

/// A probe of PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PostgresProbe {
    /// `None`: nobody logs in, and nothing but that logins are taken is asked.
    pub login: Option<SqlLogin>,
    /// Over TLS.
    pub tls: bool,
    /// How far its log goes is asked too.
    pub state: bool,
    /// It is made the primary, rather than looked at: it has so long.
    pub promote: Option<Duration>,
}

/// A probe of MySQL or MariaDB.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MysqlProbe {
    /// `None`: nobody logs in, and nothing but that logins are taken is asked.
    pub login: Option<SqlLogin>,
    /// Over TLS.
    pub tls: bool,
}

/// What is asked of a database that lets a user in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SqlLogin {
    /// The user.
    pub user: String,
    /// `None`: it is let in without one.
    pub password: Option<Secret>,
    /// The database; empty: none.
    pub database: String,
    /// What it must answer.
    pub query: Option<String>,
    /// The first value of the answer.
    pub expect: Option<String>,
    /// What it must be.
    pub role: Option<DataRole>,
    /// How far a replica may be behind.
    pub lag_max: Option<Duration>,
}

/// What is written of a login.
struct Written<'w> {
    user: &'w Field<Text>,
    password: &'w Field<SecretRef>,
    database: &'w Field<Text>,
    query: &'w Field<Text>,
    expect: &'w Field<Text>,
    role: &'w Field<Text>,
    lag_max: &'w Field<Span>,
}

impl Resolver<'_> {
    /// What a PostgreSQL is asked. The database is named like the user unless it is written.
    pub(super) fn postgres_probe(&self, raw: &RawPostgresProbe) -> PostgresProbe {
        let RawPostgresProbe { user, password, database, query, expect, role, lag_max, tls } = raw;
        let login = self.sql_login(&Written { user, password, database, query, expect, role, lag_max });
        let login = login.map(|login| match login.database.is_empty() {
            true => SqlLogin { database: login.user.clone(), ..login },
            false => login,
        });
        PostgresProbe { login, tls: tls.get().is_some_and(|at| at.value), ..PostgresProbe::default() }
    }

    /// What a MySQL is asked.
    pub(super) fn mysql_probe(&self, raw: &RawMysqlProbe) -> MysqlProbe {
        let RawMysqlProbe { user, password, database, query, expect, role, lag_max, tls } = raw;
        let login = self.sql_login(&Written { user, password, database, query, expect, role, lag_max });
        MysqlProbe { login, tls: tls.get().is_some_and(|at| at.value) }
    }

    fn sql_login(&self, raw: &Written<'_>) -> Option<SqlLogin> {
        let Some(user) = raw.user.get() else {
            if raw.user.is_absent() {
                let needs_login = [
                    raw.password.get().map(|at| &at.place),
                    raw.database.get().map(|at| &at.place),
                    raw.query.get().map(|at| &at.place),
                    raw.expect.get().map(|at| &at.place),
                    raw.role.get().map(|at| &at.place),
                    raw.lag_max.get().map(|at| &at.place),
                ];
                for place in needs_login.into_iter().flatten() {
                    let what = "it says nothing without user";
                    self.mistakes.absent(place, what, "write user = \"mainstay\", or remove it");
                }
            }
            return None;
        };
        self.no_nul(user);
        [raw.database, raw.query].into_iter().filter_map(Field::get).for_each(|at| self.no_nul(at));
        if let (Some(at), true) = (raw.expect.get(), raw.query.is_absent()) {
            let remedy = "write query = \"SELECT …\", or remove expect";
            self.mistakes.absent(&at.place, "expect says nothing without query", remedy);
        }
        let role = self.data_role(raw.role);
        if let (Some(DataRole::Primary), Some(at)) = (role, raw.lag_max.get()) {
            let remedy = "remove lag-max, or write role = \"replica\"";
            self.mistakes.value(&at.place, "a primary is behind nobody", remedy);
        }
        let text = |field: &Field<Text>| field.get().map(|at| at.value.0.clone());
        Some(SqlLogin {
            user: user.value.0.clone(),
            password: self.secret(raw.password),
            database: text(raw.database).unwrap_or_default(),
            query: text(raw.query),
            expect: text(raw.expect),
            role,
            lag_max: raw.lag_max.get().map(|at| at.value.0),
        })
    }
}
