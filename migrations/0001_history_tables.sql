-- The five history tables. Their columns are a contract: what else is needed goes into side tables.

CREATE TABLE IF NOT EXISTS optimization_history (
    id UUID PRIMARY KEY,
    timestamp TIMESTAMPTZ NOT NULL,
    optimization_type VARCHAR(50) NOT NULL,
    parameters JSONB NOT NULL,
    baseline_metrics JSONB NOT NULL,
    optimized_metrics JSONB NOT NULL,
    improvement_percentage DECIMAL(5,2),
    rl_reward DECIMAL(10,4)
);

CREATE TABLE IF NOT EXISTS healing_incidents (
    id UUID PRIMARY KEY,
    detected_at TIMESTAMPTZ NOT NULL,
    incident_type VARCHAR(50) NOT NULL,
    severity VARCHAR(20) NOT NULL,
    symptoms JSONB NOT NULL,
    diagnosis JSONB,
    remediation_actions JSONB,
    resolved_at TIMESTAMPTZ,
    resolution_time_seconds INTEGER,
    success BOOLEAN
);

CREATE TABLE IF NOT EXISTS scaling_events (
    id UUID PRIMARY KEY,
    timestamp TIMESTAMPTZ NOT NULL,
    scaling_type VARCHAR(20) NOT NULL,
    resource_type VARCHAR(50) NOT NULL,
    predicted_demand JSONB NOT NULL,
    actual_demand JSONB,
    scaling_action JSONB NOT NULL,
    cost_impact DECIMAL(10,2),
    performance_impact JSONB
);

CREATE TABLE IF NOT EXISTS threat_events (
    id UUID PRIMARY KEY,
    detected_at TIMESTAMPTZ NOT NULL,
    threat_type VARCHAR(50) NOT NULL,
    severity VARCHAR(20) NOT NULL,
    indicators JSONB NOT NULL,
    confidence_score DECIMAL(3,2) NOT NULL,
    response_actions JSONB,
    resolved_at TIMESTAMPTZ,
    false_positive BOOLEAN DEFAULT FALSE
);

CREATE TABLE IF NOT EXISTS governance_adaptations (
    id UUID PRIMARY KEY,
    timestamp TIMESTAMPTZ NOT NULL,
    policy_type VARCHAR(50) NOT NULL,
    old_policy JSONB NOT NULL,
    new_policy JSONB NOT NULL,
    adaptation_reason TEXT NOT NULL,
    effectiveness_score DECIMAL(3,2),
    rollback_at TIMESTAMPTZ
);
