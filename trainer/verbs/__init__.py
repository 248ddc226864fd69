"""The verbs of `isoflop`; each is a few lines that call one room. Rooms are imported when their verb is used."""
