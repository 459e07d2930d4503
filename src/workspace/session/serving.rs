//! A model and its adapters that answer many at once: one engine, one decoder.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::stop_texts::StopTexts;
use super::{Session, SessionDevice, SessionError};
use crate::job::BaseForm;
use crate::pretrained::{Checkpoint, ModelTokenizer, TextStream};
use crate::protocol::{
    AnswerEnd, AskInquiry, EngineFailure, Event, Inquiry, Order, Sampling, ServeOrder, TokenLogprobs,
};
use crate::workspace::WorkspaceError;

/// Tokens per pass.
const TOKEN_BUDGET: usize = 1024;

/// A running server of a model and its adapters. Clones share it.
#[derive(Debug, Clone)]
pub struct ModelServer {
    /// The base model's tokenizer.
    pub tokenizer: Arc<ModelTokenizer>,
    /// Positions of the model: prompt and answer together are not longer.
    pub positions: u64,
    messages: mpsc::UnboundedSender<Message>,
    open: Arc<AtomicUsize>,
    most_open: usize,
    ids: Arc<AtomicU64>,
    ended: watch::Receiver<Option<String>>,
}

/// What is asked of a model.
#[derive(Debug, Clone)]
pub struct Question {
    /// Number of the model in the order in which the server was started with.
    pub member: usize,
    /// At least one token.
    pub prompt: Vec<u32>,
    /// Tokens that end the answer.
    pub stop_tokens: Vec<u32>,
    /// Texts that end the answer and are not part of it.
    pub stop_texts: Vec<String>,
    /// Most tokens of the answer, at least one.
    pub max_new_tokens: u64,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The answer's number among those of the seed.
    pub answer: u64,
    /// Report log-probabilities, with this many of the most likely tokens.
    pub top_logprobs: Option<usize>,
}

/// Why a question is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// As many are answered or wait as may.
    #[error("{0} requests are being answered or wait")]
    Busy(usize),
    /// The engine refused it.
    #[error("{}", .0.message)]
    Refused(EngineFailure),
    /// The engine ended.
    #[error("{0}")]
    Ended(String),
    /// A token that the tokenizer does not know.
    #[error("{0}")]
    Tokenizer(String),
}

/// A part of an answer: one token, with the text that is whole since.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerPart {
    /// The text; empty where a token ends within a character, or what it says may become a stop text.
    pub text: String,
    /// The token; none for the rest of the text after the last one.
    pub token: Option<u32>,
    /// Its log-probability, if requested.
    pub logprobs: Option<TokenLogprobs>,
    /// Why the answer ends here.
    pub end: Option<AnswerEnd>,
}

/// An answer, token by token. Dropped before its end, nothing more of it is computed.
#[derive(Debug)]
pub struct AnswerStream {
    id: u64,
    tokens: mpsc::UnboundedReceiver<Result<Token, AnswerError>>,
    messages: mpsc::UnboundedSender<Message>,
    tokenizer: Arc<ModelTokenizer>,
    text: TextStream,
    stops: StopTexts,
    stop_tokens: Vec<u32>,
    has_ended: bool,
    _open: OpenCount,
}

#[derive(Debug)]
struct Token {
    token: u32,
    end: Option<AnswerEnd>,
    logprobs: Option<TokenLogprobs>,
}

#[derive(Debug)]
enum Message {
    Ask(AskInquiry, mpsc::UnboundedSender<Result<Token, AnswerError>>),
    Withdraw(u64),
    Close,
}

/// One of the answers that count towards the most at a time.
#[derive(Debug)]
struct OpenCount(Arc<AtomicUsize>);

impl Drop for OpenCount {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl ModelServer {
    /// Loads a model and its adapters; none of the folders is the base model itself. At most `most_open` questions are answered or wait
    /// at a time. The handle ends with the engine. Errors: no tokenizer, the engine's.
    pub async fn start(
        (model, form): (PathBuf, BaseForm),
        adapters: Vec<Option<PathBuf>>,
        most_open: usize,
        on: &SessionDevice,
    ) -> Result<(Self, JoinHandle<()>), WorkspaceError> {
        let checkpoint = Checkpoint::open(&model)?;
        let tokenizer = Arc::new(ModelTokenizer::open(&checkpoint)?);
        adapters.iter().flatten().try_for_each(|folder| super::require_adapter(folder))?;
        let mut session = Session::start(on)?;
        session.load(&model, form).await?;
        let order = Order::Serve(ServeOrder { adapters, token_budget: TOKEN_BUDGET });
        let Event::Serving = session.carry_out(&order, |_| Ok(())).await? else {
            return Err(SessionError::OtherAnswer.into());
        };
        let (messages, receiver) = mpsc::unbounded_channel();
        let (over, ended) = watch::channel(None);
        let engine = tokio::spawn(async move {
            let why = pump(session, receiver).await;
            // Nobody may be left to hear it.
            let _ = over.send(Some(why));
        });
        let server = Self {
            tokenizer,
            positions: checkpoint.config().max_positions,
            messages,
            open: Arc::default(),
            most_open,
            ids: Arc::default(),
            ended,
        };
        Ok((server, engine))
    }

    /// Answers a question. Error: too many are being answered.
    pub fn ask(&self, question: Question) -> Result<AnswerStream, AnswerError> {
        let before = self.open.fetch_add(1, Ordering::SeqCst);
        let open = OpenCount(Arc::clone(&self.open));
        if before >= self.most_open {
            return Err(AnswerError::Busy(before));
        }
        let id = self.ids.fetch_add(1, Ordering::SeqCst);
        let (sender, tokens) = mpsc::unbounded_channel();
        let stop_tokens = question.stop_tokens.clone();
        let inquiry = AskInquiry {
            id,
            member: question.member,
            prompt: question.prompt,
            stop: question.stop_tokens,
            max_new_tokens: question.max_new_tokens,
            sampling: question.sampling,
            answer: question.answer,
            top_logprobs: question.top_logprobs,
        };
        let ended = || AnswerError::Ended(self.ended.borrow().clone().unwrap_or_default());
        self.messages.send(Message::Ask(inquiry, sender)).map_err(|_| ended())?;
        Ok(AnswerStream {
            id,
            tokens,
            messages: self.messages.clone(),
            tokenizer: Arc::clone(&self.tokenizer),
            text: TextStream::default(),
            stops: StopTexts::new(&question.stop_texts),
            stop_tokens,
            has_ended: false,
            _open: open,
        })
    }

    /// Questions that are answered or wait.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Waits until the engine has ended; why.
    pub async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        let why = ended.wait_for(Option::is_some).await;
        why.ok().and_then(|why| why.clone()).unwrap_or_default()
    }

    /// Ends the engine. What is being answered ends with an error.
    pub fn close(&self) {
        // It may have ended by itself.
        let _ = self.messages.send(Message::Close);
    }
}

impl AnswerStream {
    /// The next part; none after the end. Errors: the engine's, too late a failure of the tokenizer.
    pub async fn next(&mut self) -> Option<Result<AnswerPart, AnswerError>> {
        if self.has_ended {
            return None;
        }
        let Some(token) = self.tokens.recv().await else {
            self.has_ended = true;
            return Some(Err(AnswerError::Ended("the engine ended".to_owned())));
        };
        let part = token.and_then(|token| self.part(token));
        self.has_ended = part.as_ref().map_or(true, |part| part.end.is_some());
        Some(part)
    }

    fn part(&mut self, Token { token, end, logprobs }: Token) -> Result<AnswerPart, AnswerError> {
        let failed = |error: crate::pretrained::TokenizerError| AnswerError::Tokenizer(error.to_string());
        // A stop token is no part of the text.
        let is_stop = end == Some(AnswerEnd::Stop) && self.stop_tokens.contains(&token);
        let mut text = match is_stop {
            true => String::new(),
            false => self.text.push(token, &self.tokenizer).map_err(failed)?,
        };
        if end.is_some() {
            text.push_str(&self.text.finish(&self.tokenizer).map_err(failed)?);
        }
        let (mut text, has_stopped) = self.stops.push(&text);
        let token = (!is_stop).then_some(token);
        if has_stopped {
            return Ok(AnswerPart { text, token, logprobs, end: Some(AnswerEnd::Stop) });
        }
        if end.is_some() {
            text.push_str(&self.stops.finish());
        }
        Ok(AnswerPart { text, token, logprobs, end })
    }
}

impl Drop for AnswerStream {
    fn drop(&mut self) {
        // It may have been answered, and the engine may be gone.
        let _ = self.messages.send(Message::Withdraw(self.id));
    }
}

/// Passes questions to the engine and tokens to who asked, until the engine ends or is asked to; why it ended.
async fn pump(mut session: Session, mut messages: mpsc::UnboundedReceiver<Message>) -> String {
    let mut asked: HashMap<u64, mpsc::UnboundedSender<Result<Token, AnswerError>>> = HashMap::new();
    let why = loop {
        tokio::select! {
            message = messages.recv() => {
                let sent = match message {
                    Some(Message::Ask(inquiry, sender)) => {
                        asked.insert(inquiry.id, sender);
                        session.inquire(&Inquiry::Ask(inquiry))
                    }
                    Some(Message::Withdraw(id)) => match asked.remove(&id) {
                        Some(_) => session.inquire(&Inquiry::Withdraw { id }),
                        None => Ok(()),
                    },
                    Some(Message::Close) | None => break "the server ended".to_owned(),
                };
                if let Err(error) = sent {
                    break error.to_string();
                }
            }
            event = session.next() => match event {
                Ok(Event::Answered { id, token, end, logprobs }) => {
                    if let Some(sender) = asked.get(&id) {
                        // Who asked may have gone; the withdrawal is on its way.
                        let _ = sender.send(Ok(Token { token, end, logprobs }));
                    }
                    if end.is_some() {
                        asked.remove(&id);
                    }
                }
                Ok(Event::Unanswered { id, failure }) => {
                    if let Some(sender) = asked.remove(&id) {
                        let _ = sender.send(Err(AnswerError::Refused(failure)));
                    }
                }
                Ok(_) => {}
                Err(error) => break error.to_string(),
            }
        }
    };
    for sender in asked.into_values() {
        let _ = sender.send(Err(AnswerError::Ended(why.clone())));
    }
    why
}
