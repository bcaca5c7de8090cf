package rules

// PassedOver reports whether a message to a Watch rule is to be passed over, of which m is
// the Order: it is what is known of its topic, of which known is the Order, or came before
// that. Rules hear what stands on topics by two subscriptions, of which either may be
// ahead, and what is retained besides.
func PassedOver(m, known uint64) bool { return known != 0 && m <= known }
