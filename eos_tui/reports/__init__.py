"""What a sweep's runs say together: one module a question, and what they share."""
