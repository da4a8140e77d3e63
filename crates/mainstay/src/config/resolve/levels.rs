//! How far Mainstay may go on its own: `service.NAME.recovery.level`, one word for all rungs or a table.

use mainstay_model::rung::{Level, Levels};

use super::whole::Resolver;
use crate::config::raw::RawLevels;
use crate::config::read::{At, Field, Text, TextOr};

impl Resolver<'_> {
    pub(super) fn levels(&self, field: &Field<TextOr<RawLevels>>) -> Levels {
        let default = Levels::default();
        match field.get() {
            None => default,
            Some(At { value: TextOr::Text(written), place }) => {
                let word = self.one_of(written, place, &Level::WORDS);
                word.and_then(Level::of).map_or(default, Levels::all)
            }
            Some(At { value: TextOr::Table(table), .. }) => {
                let level = |field: &Field<Text>, default| {
                    self.word(field, &Level::WORDS).and_then(Level::of).unwrap_or(default)
                };
                Levels {
                    restart: level(&table.restart, default.restart),
                    roll_back: level(&table.roll_back, default.roll_back),
                    switch: level(&table.switch, default.switch),
                    scale: level(&table.scale, default.scale),
                    replace: level(&table.replace, default.replace),
                }
            }
        }
    }
}
