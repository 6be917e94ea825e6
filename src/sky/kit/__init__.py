"""Tools that know nothing of clouds or jobs; each would make sense as a library of its own."""
