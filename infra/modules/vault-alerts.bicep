// Alerts on what the backup service reports of a vault, scheduled backups included.

param suffix string
param tags object
param actionGroupId string
param vaultId string

var rules = loadJsonContent('../alerts.json')

resource ofVault 'Microsoft.Insights/metricAlerts@2018-03-01' = [for rule in rules.vault: {
  name: '${rule.name}-${suffix}'
  location: 'global'
  tags: tags
  properties: {
    description: rule.description
    severity: rule.severity
    enabled: true
    scopes: [
      vaultId
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
