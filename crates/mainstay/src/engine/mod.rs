//! The one loop that owns the clock, hands inputs to the model and carries its effects out.
