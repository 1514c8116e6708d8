// Where logs, traces and metrics go; by identity alone.

param token string
param location string
param tags object

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' = {
  name: 'log-${token}'
  location: location
  tags: tags
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: 30
    features: {
      disableLocalAuth: true
      enableLogAccessUsingOnlyResourcePermissions: true
    }
  }
}

resource component 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-${token}'
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

resource queries 'Microsoft.OperationalInsights/workspaces/savedSearches@2025-02-01' = [for query in loadJsonContent('../queries.json'): {
  parent: workspace
  name: query.name
  properties: {
    category: 'SQL VM Backup'
    displayName: query.displayName
    query: query.query
  }
}]

output workspaceId string = workspace.id
output componentName string = component.name
