"""What is known about boards: facts with sources, rules and budgets."""
