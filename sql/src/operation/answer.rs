//! What operations answer with: the members of JSON objects, declared beside the operation as its parameters are.
//!
//! **Invariant:** declarations only; that answers are as declared, the end-to-end tests show.

/// One member of an answer, or of an object within it.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    /// The name.
    pub name: &'static str,
    /// What it holds.
    pub form: Form,
    /// Whether it is always there.
    pub always: bool,
    /// Whether it may be null.
    pub nullable: bool,
    /// What it means, in one sentence.
    pub says: &'static str,
}

/// What a member holds. Objects may get more members as time goes by.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// A text.
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A UUID.
    Id,
    /// A time: RFC 3339, UTC.
    Time,
    /// true or false.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// null.
    Null,
    /// An object with these members.
    Object(&'static [Member]),
    /// An object with these members, and others that hold this.
    Extended(&'static [Member], &'static Form),
    /// An object with members of any names, each of which holds this.
    Map(&'static Form),
    /// A list.
    List(&'static Form),
    /// A row of this view, as its GET has it.
    Row(&'static str),
    /// One of these.
    Either(&'static [Form]),
    /// Any JSON.
    Any,
}

impl Member {
    /// A member that is always there and never null.
    pub const fn new(name: &'static str, form: Form, says: &'static str) -> Self {
        Self { name, form, always: true, nullable: false, says }
    }

    /// The same, but it may be null.
    #[must_use]
    pub const fn or_null(mut self) -> Self {
        self.nullable = true;
        self
    }

    /// The same, but it may be missing.
    #[must_use]
    pub const fn sometimes(mut self) -> Self {
        self.always = false;
        self
    }
}

/// A value between two others, of 95 % of all resamples.
pub(crate) const CI95: Form = Form::List(&Form::Number);

/// Two times.
pub(crate) const WINDOW: &[Member] =
    &[Member::new("from", Form::Time, "Its begin."), Member::new("to", Form::Time, "Its end.")];

/// What is acted on.
pub(crate) const TARGET: &[Member] = &[
    Member::new("executor", Form::Text, "What acts on it."),
    Member::new("kind", Form::Text, "What it is there."),
    Member::new("name", Form::Text, "Its name there."),
];

/// How much is acted on.
pub(crate) const BLAST_RADIUS: &[Member] = &[
    Member::new("targets", Form::Integer, "How many targets of actuators are acted on."),
    Member::new("pct_of_fleet", Form::Number, "What share of the fleet that is, in percent."),
];

/// A problem within an answer: what a failed job has.
pub(crate) const PROBLEM: &[Member] = &[
    Member::new("type", Form::Text, "A page of this server that explains it.").sometimes(),
    Member::new("title", Form::Text, "The same for every problem of this type.").sometimes(),
    Member::new("status", Form::Integer, "The HTTP status that it would have had.").sometimes(),
    Member::new("detail", Form::Text, "What happened."),
    Member::new("sqlstate", Form::Text, "PostgreSQL's code.").sometimes(),
    Member::new("errors", Form::List(&Form::Object(FAULT)), "Which arguments are at fault.").sometimes(),
    Member::new("instance", Form::Text, "What was asked for.").sometimes(),
    Member::new("trace_id", Form::Text, "The request's id.").sometimes(),
];
const FAULT: &[Member] = &[
    Member::new("pointer", Form::Text, "A JSON pointer into the arguments."),
    Member::new("detail", Form::Text, "What is wrong with it."),
];
