"""What people look at: the live panel, plain lines, tables; human units are born here."""
