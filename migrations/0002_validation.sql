-- Losses on the rows that are kept for validation, and the mean loss of the last tenth of a training's steps.
ALTER TABLE curves ADD COLUMN validation_loss DOUBLE PRECISION;
ALTER TABLE trainings ADD COLUMN validation_loss DOUBLE PRECISION;
ALTER TABLE trainings ADD COLUMN last_losses DOUBLE PRECISION;
