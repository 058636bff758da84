"""What rulesets decide, read from the rules themselves: packets, an evaluator of nft rules, and a proof."""
