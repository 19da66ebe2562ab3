"""Who was studied: the flow of patients, table one, the size of the study."""
