// The alerts of one app, each with an entry in docs/operations.md. Azure Monitor evaluates them: none needs the app
// or its timers to run.

param suffix string
param location string
param tags object
param workspaceId string
param actionGroupId string
param namespaceId string
param appName string
param workflows array

var rules = loadJsonContent('../alerts.json')
// An app without schedules has no timer, so its silence says nothing.
var ofThisApp = filter(rules.app, rule => !contains(rule, 'workflows') || !empty(intersection(rule.?workflows ?? [], workflows)))

resource ofNamespace 'Microsoft.Insights/metricAlerts@2018-03-01' = [for rule in rules.namespace: {
  name: '${rule.name}-${suffix}'
  location: 'global'
  tags: tags
  properties: {
    description: rule.description
    severity: rule.severity
    enabled: true
    scopes: [
      namespaceId
    ]
    evaluationFrequency: rule.frequency
    windowSize: rule.window
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: rule.criteria
    }
    autoMitigate: true
    actions: [
      {
        actionGroupId: actionGroupId
      }
    ]
  }
}]

resource ofApp 'Microsoft.Insights/scheduledQueryRules@2023-12-01' = [for rule in ofThisApp: {
  name: '${rule.name}-${suffix}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: '${rule.name}-${suffix}'
    description: rule.description
    severity: rule.severity
    enabled: true
    scopes: [
      workspaceId
    ]
    evaluationFrequency: rule.frequency
    windowSize: rule.window
    skipQueryValidation: true
    autoMitigate: true
    criteria: {
      allOf: [
        {
          query: replace(rule.query, '{app}', appName)
          timeAggregation: 'Count'
          operator: rule.operator
          threshold: rule.threshold
          failingPeriods: {
            numberOfEvaluationPeriods: 1
            minFailingPeriodsToAlert: 1
          }
        }
      ]
    }
    actions: {
      actionGroups: [
        actionGroupId
      ]
    }
  }
}]
