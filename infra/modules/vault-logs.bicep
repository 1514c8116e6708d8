// What the backup service logs of a vault, in separate tables: which job failed, which database missed its backup.

param vaultName string
param settingName string
param workspaceId string

resource vault 'Microsoft.RecoveryServices/vaults@2025-02-01' existing = {
  name: vaultName
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: settingName
  scope: vault
  properties: {
    workspaceId: workspaceId
    logAnalyticsDestinationType: 'Dedicated'
    logs: [for category in loadJsonContent('../vault-log-categories.json'): {
      category: category
      enabled: true
    }]
  }
}
