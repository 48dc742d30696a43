BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE odyssey_queue (
	trial_id INTEGER NOT NULL, 
	sweep VARCHAR(512) NOT NULL, 
	place INTEGER NOT NULL, 
	worker VARCHAR(128), 
	failures INTEGER NOT NULL, 
	PRIMARY KEY (trial_id)
);
INSERT INTO "odyssey_queue" VALUES(3,'old/echo',2,'worker',0);
INSERT INTO "odyssey_queue" VALUES(4,'old/echo',3,'worker',0);
CREATE TABLE odyssey_workers (
	worker VARCHAR(128) NOT NULL, 
	sweep VARCHAR(512) NOT NULL, 
	host VARCHAR(256) NOT NULL, 
	boot VARCHAR(64) NOT NULL, 
	pid INTEGER NOT NULL, 
	device VARCHAR(256) NOT NULL, 
	beat INTEGER NOT NULL, 
	ended INTEGER NOT NULL, 
	joined DATETIME NOT NULL, 
	seen DATETIME NOT NULL, 
	PRIMARY KEY (worker)
);
INSERT INTO "odyssey_workers" VALUES('worker','old/echo','host','boot',3346,'cpu on AMD EPYC',5,2,'2026-11-21 18:00:19','2026-11-21 18:00:22');
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'old/echo/vanilla');
INSERT INTO "studies" VALUES(2,'old/echo/rnn');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MINIMIZE',1,0);
INSERT INTO "study_directions" VALUES(2,'MINIMIZE',2,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_system_attributes" VALUES(1,1,'study:metric_names','["negative log-likelihood [nats per step]"]');
INSERT INTO "study_system_attributes" VALUES(2,2,'study:metric_names','["negative log-likelihood [nats per step]"]');
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_user_attributes" VALUES(1,1,'variant','{"cell": "lstm"}');
INSERT INTO "study_user_attributes" VALUES(2,2,'variant','{"cell": "rnn"}');
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'hidden_size',3.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 2, "high": 4}}');
INSERT INTO "trial_params" VALUES(2,1,'lr',4.5866054807787882009e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(3,1,'1 - momentum',5.90483198889570348733e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
INSERT INTO "trial_params" VALUES(4,1,'input_noise',6.57583152175579388476e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}');
INSERT INTO "trial_params" VALUES(5,2,'hidden_size',3.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 2, "high": 4}}');
INSERT INTO "trial_params" VALUES(6,2,'lr',4.5866054807787882009e-04,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(7,2,'1 - momentum',5.90483198889570348733e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
INSERT INTO "trial_params" VALUES(8,2,'input_noise',6.57583152175579388476e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}');
INSERT INTO "trial_params" VALUES(9,3,'hidden_size',2.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 2, "high": 4}}');
INSERT INTO "trial_params" VALUES(10,3,'lr',2.12934992074909242021e-03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(11,3,'1 - momentum',2.45971254164125928409e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
INSERT INTO "trial_params" VALUES(12,3,'input_noise',8.34128388756299132822e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}');
INSERT INTO "trial_params" VALUES(13,4,'hidden_size',2.0,'{"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 2, "high": 4}}');
INSERT INTO "trial_params" VALUES(14,4,'lr',2.12934992074909242021e-03,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0001, "high": 0.01, "log": true}}');
INSERT INTO "trial_params" VALUES(15,4,'1 - momentum',2.45971254164125928409e-02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.01, "high": 1.0, "log": true}}');
INSERT INTO "trial_params" VALUES(16,4,'input_noise',8.34128388756299132822e-01,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'result','{"hidden_size": 3, "lr": 0.0004586605480778788, "momentum": 0.40951680111042965, "input_noise": 0.6575831521755794, "seed": 3204671179120145369, "status": "finished", "valid_score": 3.2980153392789386, "test_score": 3.3019957284201396, "best_epoch": 30, "epochs": 30, "last_valid_score": 3.2980153392789386, "train_seconds": 0.42689882699960435, "n_parameters": 137, "engine": "cpu", "device": "AMD EPYC", "dtype": "float64", "data_hash": "1fc8a087e4852332a10b7d0245f3cfe9e9f13cd4a088ee6a45d521d5533e7966", "git_revision": null, "versions": {"python": "3.11.7", "odyssey": "0.1.0", "torch": "2.13.0+cpu", "numpy": "2.4.6", "optuna": "5.0.0"}, "finished": "2026-11-21T18:00:21+00:00"}');
INSERT INTO "trial_user_attributes" VALUES(2,2,'result','{"hidden_size": 3, "lr": 0.0004586605480778788, "momentum": 0.40951680111042965, "input_noise": 0.6575831521755794, "seed": 3204671179120145369, "status": "finished", "valid_score": 2.764656854141771, "test_score": 2.7958215802185085, "best_epoch": 30, "epochs": 30, "last_valid_score": 2.764656854141771, "train_seconds": 0.21581082600278023, "n_parameters": 47, "engine": "cpu", "device": "AMD EPYC", "dtype": "float64", "data_hash": "1fc8a087e4852332a10b7d0245f3cfe9e9f13cd4a088ee6a45d521d5533e7966", "git_revision": null, "versions": {"python": "3.11.7", "odyssey": "0.1.0", "torch": "2.13.0+cpu", "numpy": "2.4.6", "optuna": "5.0.0"}, "finished": "2026-11-21T18:00:21+00:00"}');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,3.29801533927893864017e+00,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,2.7646568541417710918e+00,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-21 18:00:19.091005','2026-11-21 18:00:22.402628');
INSERT INTO "trials" VALUES(2,0,2,'COMPLETE','2026-11-21 18:00:19.091005','2026-11-21 18:00:22.405227');
INSERT INTO "trials" VALUES(3,1,1,'RUNNING','2026-11-21 18:00:19.091005',NULL);
INSERT INTO "trials" VALUES(4,1,2,'RUNNING','2026-11-21 18:00:22.413403',NULL);
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
CREATE INDEX ix_odyssey_queue_sweep ON odyssey_queue (sweep);
CREATE INDEX ix_odyssey_queue_worker ON odyssey_queue (worker);
CREATE INDEX ix_odyssey_workers_sweep ON odyssey_workers (sweep);
COMMIT;
